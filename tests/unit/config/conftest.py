from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from gateway.config.load import Loaded, load
from gateway.config.problems import ConfigError

LoadText = Callable[..., Loaded]
ProblemsOf = Callable[..., dict[str, str]]


@pytest.fixture
def load_text(tmp_path: Path) -> LoadText:
    """Load a settings file with this text, in a folder of its own."""

    def load_it(text: str, environ: Mapping[str, str] | None = None) -> Loaded:
        path = tmp_path / "config.toml"
        path.write_text(text, encoding="utf-8")
        return load(path, environ or {})

    return load_it


@pytest.fixture
def problems_of(load_text: LoadText) -> ProblemsOf:
    """Load a file that is wrong and return its messages by path."""

    def refuse(text: str, environ: Mapping[str, str] | None = None) -> dict[str, str]:
        with pytest.raises(ConfigError) as refusal:
            load_text(text, environ)
        problems = refusal.value.problems
        by_path = {problem.path: problem.message for problem in problems}

        assert len(problems) == len(by_path)
        return by_path

    return refuse

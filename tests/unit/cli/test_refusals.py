from __future__ import annotations

from pathlib import Path

import pytest

from gateway.app import LoopDiedError
from gateway.assets.interface import AssetUnavailableError
from gateway.cli.refusals import REFUSALS, lines_of
from gateway.config.problems import ConfigError, Problem
from gateway.domain.errors import StoreUnavailable
from gateway.service.admin import AdminRefusedError
from gateway.store.data_dir import EmbeddedServerError

PROBLEMS = [Problem("redis.url", "is wrong"), Problem("server.port", "too")]


@pytest.mark.parametrize(
    ("error", "lines"),
    [
        (
            ConfigError(PROBLEMS),
            ("my.toml cannot be used:", "redis.url: is wrong", "server.port: too"),
        ),
        (
            ConfigError([Problem("my.toml", "cannot be read: No such file or directory")]),
            ("my.toml: cannot be read: No such file or directory",),
        ),
        (
            StoreUnavailable(),
            ("the store that redis.url names did not answer within redis.timeout.",),
        ),
        (AdminRefusedError("no team"), ("no team",)),
        (EmbeddedServerError("no server"), ("no server",)),
        (AssetUnavailableError("no folder"), ("no folder",)),
        (LoopDiedError("dead: poller"), ("dead: poller",)),
    ],
)
def test_lines_of(error: Exception, lines: tuple[str, ...]) -> None:
    """Each tells what is wrong and where."""
    assert isinstance(error, REFUSALS)
    assert lines == lines_of(error, Path("my.toml"))

from __future__ import annotations

from pathlib import Path

from gateway.cli.options import SETTINGS
from tests.support.commands import commands

#: Says its file in first place, as linters do.
BY_ARGUMENT = "check"


def test_settings_are_named_alike_everywhere() -> None:
    """Whatever reads them takes `--config`, and `config.toml` without it."""
    seen = {}
    for path, command in commands():
        for option in command.params:
            if option.name == "config":
                seen[" ".join(path)] = (option.opts, option.default, option.help)
    about_one = seen.pop(BY_ARGUMENT)

    assert {(("--config",), Path("config.toml"), "The settings file.")} == {
        (tuple(opts), default, text) for opts, default, text in seen.values()
    }
    assert SETTINGS == about_one[1]
    assert len(seen) > 15


def test_one_team_is_chosen_alike_everywhere() -> None:
    """Where a team may be left out, it is all of them."""
    texts = {
        option.help
        for _, command in commands()
        for option in command.params
        if option.name == "team" and not option.required
    }

    assert texts == {"One team; all of them when absent."}

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from gateway.cli.accounts import operator
from gateway.cli.main import app


def test_a_store_that_does_not_answer_is_said(tmp_path: Path) -> None:
    """The command ends with 1 and says what it waited for."""
    config = tmp_path / "config.toml"
    config.write_text('[redis]\nurl = "unix:///nonexistent.sock"\ntimeout = "200ms"\n')
    done = CliRunner().invoke(app, ["teams", "list", "--config", str(config)])

    assert (
        1,
        "gateway: the store that redis.url names did not answer within redis.timeout.\n",
    ) == (done.exit_code, done.stderr)


def test_mistakes_of_the_file_are_told_with_their_place(tmp_path: Path) -> None:
    """The command reads the same file as the server, with the same eyes."""
    config = tmp_path / "config.toml"
    config.write_text("[redis]\ntimeout = 7\n")
    done = CliRunner().invoke(app, ["teams", "list", "--config", str(config)])

    assert 1 == done.exit_code
    assert "redis.timeout" in done.stderr


def test_the_audit_names_the_user_of_the_machine() -> None:
    """Whoever types the command is who did it."""
    assert operator().startswith("cli")

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from gateway.config.load import load, process_environ
from gateway.config.problems import ConfigError

LIVE = """
[providers.evolink]
kind = "evolink"
api_key_env = "EVO"

[models."gpt-image-1.5"]
routes = ["evolink"]

[[teams.design.keys]]
name = "ci"
env = "CI_KEY"
"""

WRONG = """
sever = {}

[server]
port = "8080"
wait = 280

[redis]
url = "hunter22@host"
url_env = "REDIS_URL"

[providers.evolink]
kind = "evolink"
api_key = "sk-evo-4f7a9c1b2d3e"

[models."gpt-image-1.5"]
routes = ["evolinc"]

[teams.design]
budgets = [{ usd = 0.0000001, per = "fortnight" }]
defaults = { size = "huge" }
keys = [{ name = "ci", sha256 = "sk-team-4f7a9c1b2d3e" }]
"""


def test_every_mistake_is_told_at_once(problems_of: Any) -> None:
    """Wrong values, unknown names and broken rules come in one list, and no secret with them."""
    problems = problems_of(WRONG)

    assert problems == {
        "server.port": "expected a whole number",
        "server.wait": 'expected a length of time such as "500ms", "280s", "10m", "24h" or "7d"',
        "redis.url": 'expected "embedded", or an address that begins with redis://, '
        "rediss://, unix://, redis+sentinel:// or redis+cluster://",
        "providers.evolink.api_key": "unknown setting; did you mean api_key_env?",
        "teams.design.budgets[0].usd": "expected at most six decimals: money is counted in "
        "micro-dollars",
        "teams.design.budgets[0].per": "expected minute, hour, day, week, month or total, "
        'got "fortnight"',
        "teams.design.keys[0].sha256": "expected 64 hexadecimal digits: the SHA-256 of the key, "
        "not the key itself",
        "sever": "unknown setting; did you mean server?",
        "redis": "expected url or url_env, not both",
        "providers.evolink": "expected exactly one of api_key_env and api_key_file, got 0",
        'models."gpt-image-1.5".routes[0]': "no such provider; did you mean evolink?",
        "teams.design.defaults.size": "expected 1024x1024, 1024x1536 or 1536x1024",
    }


def test_a_broken_rule_alone_is_a_mistake(problems_of: Any) -> None:
    """Values that are right one by one may be wrong together."""
    assert {"providers.evolink"} == set(problems_of('[providers.evolink]\nkind = "evolink"'))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[server]\nport 8080\n",
            "Expected '=' after a key in a key/value pair (at line 2, column 6)",
        ),
        ('a = "', "Unterminated string (at end of document)"),
        ("a = 1\na = 2\n", "Cannot overwrite a value (at line 2, column 6)"),
    ],
)
def test_syntax_errors_carry_their_line(
    problems_of: Any, tmp_path: Path, text: str, message: str
) -> None:
    """A file that is no TOML is told with the line to look at."""
    assert {str(tmp_path / "config.toml"): message} == problems_of(text)


@pytest.mark.parametrize("number", ["9" * 5000, "1e" + "9" * 30])
def test_a_number_without_measure_is_a_mistake(problems_of: Any, number: str) -> None:
    """What Python itself refuses to read is told as any other mistake."""
    assert list(problems_of(f"a = {number}").values()) == ["holds a number that is out of range"]


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    """The path that was asked for, and what the system said."""
    path = tmp_path / "config.toml"
    with pytest.raises(ConfigError) as refusal:
        load(path, {})

    assert f"{path}: cannot be read: No such file or directory" == str(refusal.value)


def test_a_file_that_is_not_text_is_told(tmp_path: Path) -> None:
    """TOML is UTF-8."""
    path = tmp_path / "config.toml"
    path.write_bytes(b"\xff\xfea\x00")
    with pytest.raises(ConfigError) as refusal:
        load(path, {})

    assert f"{path}: expected text in UTF-8" == str(refusal.value)


def test_an_empty_file_is_all_defaults(load_text: Any, tmp_path: Path) -> None:
    """Nothing has to be written; the default folders lie beside the file, too."""
    settings = load_text("").settings

    assert settings.server.wait_ms == 280_000
    assert tmp_path / "var/valkey" == settings.redis.data_dir
    assert tmp_path / "var/assets" == settings.assets.folder


def test_paths_begin_at_the_folder_of_the_file(load_text: Any, tmp_path: Path) -> None:
    """Where the program was started does not matter."""
    (tmp_path / "ca.pem").touch()
    text = LIVE.replace('api_key_env = "EVO"', 'api_key_file = "evo"').replace(
        'env = "CI_KEY"', 'file = "keys/ci"'
    )
    settings = load_text(
        f'redis.data_dir = "db"\nassets.url = "file:pics"\nnetwork.ca_file = "ca.pem"\n{text}'
    ).settings

    assert tmp_path / "db" == settings.redis.data_dir
    assert f"file:{tmp_path / 'pics'}" == settings.assets.url
    assert tmp_path / "ca.pem" == settings.network.ca_file
    assert tmp_path / "evo" == settings.providers["evolink"].api_key_file
    assert tmp_path / "keys/ci" == settings.teams["design"].keys[0].file


def test_a_relative_name_of_the_file_gives_absolute_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later change of folder moves nothing."""
    (tmp_path / "config.toml").touch()
    monkeypatch.chdir(tmp_path)

    assert tmp_path / "var/valkey" == load(Path("config.toml"), {}).settings.redis.data_dir


def test_money_is_read_without_floats(load_text: Any) -> None:
    """A TOML number of dollars arrives digit for digit."""
    text = '[teams.design]\nbudgets = [{ usd = 9007199254.740991, per = "total" }]'

    assert load_text(text).settings.teams["design"].budgets[0].limit_microusd == 2**53 - 1


def test_missing_secrets_are_no_mistake_until_they_are_required(load_text: Any) -> None:
    """A file can be checked without its secrets and not served without them."""
    loaded = load_text(LIVE)
    expected = (
        "providers.evolink.api_key_env: EVO is not set in the environment",
        "teams.design.keys[0].env: CI_KEY is not set in the environment",
    )
    with pytest.raises(ConfigError) as refusal:
        loaded.require_secrets()

    assert expected == tuple(map(str, loaded.missing_secrets))
    assert loaded.missing_secrets == refusal.value.problems


def test_secrets_that_are_there_are_given(load_text: Any) -> None:
    """With everything in place there is nothing to complain of."""
    loaded = load_text(LIVE, {"EVO": "sk-evo-1", "CI_KEY": "k" * 16})

    assert loaded.secrets is loaded.require_secrets()
    assert loaded.secrets.provider_keys["evolink"].get_secret_value() == "sk-evo-1"
    assert [owner.key_name for owner in loaded.secrets.team_keys.values()] == ["ci"]


def test_what_lies_outside_the_file_is_told_together(problems_of: Any) -> None:
    """An unusable key and a certificate that is not there, at once."""
    text = f'network.ca_file = "none.pem"\n{LIVE}'

    assert problems_of(text, {"EVO": "sk-evo-1", "CI_KEY": "short"}) == {
        "network.ca_file": "no such file",
        "teams.design.keys[0].env": "the key is too short; expected 16 characters or more",
    }


def test_an_error_keeps_no_trace_of_what_was_written(load_text: Any) -> None:
    """Neither the error nor what it was raised from holds the file's values."""
    with pytest.raises(ConfigError) as refusal:
        load_text(WRONG)

    assert refusal.value.__cause__ is None
    assert refusal.value.__suppress_context__
    assert "4f7a9c1b2d3e" not in str(refusal.value)
    assert "hunter22" not in str(refusal.value)


def test_the_environment_is_that_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands pass it to the loader."""
    monkeypatch.setenv("GATEWAY_TEST_ONLY", "yes")

    assert process_environ()["GATEWAY_TEST_ONLY"] == "yes"
    assert process_environ() is os.environ  # noqa: TID251 - the very thing under test

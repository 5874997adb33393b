from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from gateway.config.credentials import Findings, KeyOwner, find_secrets
from gateway.config.settings import Settings
from gateway.domain.ids import TeamId

KEY = "a-key-of-the-design-team"


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def _find(environ: dict[str, str] | None = None, **document: Any) -> Findings:
    return find_secrets(Settings.model_validate(document), environ or {})


def _keys(*keys: dict[str, str], team: str = "design") -> dict[str, Any]:
    named = [{"name": f"key-{index}"} | key for index, key in enumerate(keys)]
    return {team: {"keys": named}}


def _provider(**changes: str) -> dict[str, Any]:
    return {"evolink": {"kind": "evolink"} | changes}


def _told(problems: tuple[Any, ...]) -> list[str]:
    return [str(problem) for problem in problems]


def test_a_key_from_the_environment_is_kept_as_its_digest() -> None:
    """Space around it is cut off, and only its SHA-256 stays."""
    found = _find({"CI_KEY": f" {KEY}\n"}, teams=_keys({"env": "CI_KEY"}))

    assert {_digest(KEY): KeyOwner(TeamId("design"), "key-0")} == found.secrets.team_keys
    assert (found.missing, found.unusable) == ((), ())


def test_a_key_from_a_file_is_kept_as_its_digest(tmp_path: Path) -> None:
    """The newline that editors put at the end of a file is no part of the key."""
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n", encoding="utf-8")
    found = _find(teams=_keys({"file": str(file)}))

    assert {_digest(KEY): KeyOwner(TeamId("design"), "key-0")} == found.secrets.team_keys


def test_a_digest_stands_for_its_key() -> None:
    """Nothing else is needed for a key whose digest is in the file."""
    found = _find(teams=_keys({"sha256": _digest(KEY).hex().upper()}))

    assert {_digest(KEY): KeyOwner(TeamId("design"), "key-0")} == found.secrets.team_keys


def test_keys_of_all_teams_are_found() -> None:
    """One table answers whose key it is."""
    environ = {"A": "a" * 16, "B": "b" * 16}
    teams = _keys({"env": "A"}) | _keys({"env": "B"}, team="ads")
    found = _find(environ, teams=teams)

    assert {
        _digest("a" * 16): KeyOwner(TeamId("design"), "key-0"),
        _digest("b" * 16): KeyOwner(TeamId("ads"), "key-0"),
    } == found.secrets.team_keys


@pytest.mark.parametrize("environ", [{}, {"CI_KEY": ""}, {"CI_KEY": " \n"}])
def test_a_variable_that_is_not_set_is_missing(environ: dict[str, str]) -> None:
    """Unset and empty are the same; the file is not wrong for it."""
    found = _find(environ, teams=_keys({"env": "CI_KEY"}))

    assert _told(found.missing) == [
        "teams.design.keys[0].env: CI_KEY is not set in the environment"
    ]
    assert found.unusable == ()
    assert found.secrets.team_keys == {}


def test_files_that_give_no_key_are_missing(tmp_path: Path) -> None:
    """Absent, empty and unreadable files are told without repeating their path."""
    empty, binary = tmp_path / "empty", tmp_path / "binary"
    empty.write_text("\n", encoding="utf-8")
    binary.write_bytes(b"\xff\xfe")
    absent = tmp_path / "sk-evo-pasted-here"
    files = [{"file": str(path)} for path in (absent, tmp_path, empty, binary)]
    found = _find(teams=_keys(*files))

    assert _told(found.missing) == [
        "teams.design.keys[0].file: the file cannot be read: No such file or directory",
        "teams.design.keys[1].file: the file cannot be read: Is a directory",
        "teams.design.keys[2].file: the file is empty",
        "teams.design.keys[3].file: the file cannot be read: not text",
    ]
    assert found.unusable == ()


def test_a_short_key_is_refused_and_not_repeated() -> None:
    """Fifteen characters are too few, sixteen are enough."""
    found = _find({"CI_KEY": "k" * 15}, teams=_keys({"env": "CI_KEY"}))

    assert _told(found.unusable) == [
        "teams.design.keys[0].env: the key is too short; expected 16 characters or more"
    ]
    assert found.secrets.team_keys == {}
    assert len(_find({"CI_KEY": "k" * 16}, teams=_keys({"env": "CI_KEY"})).secrets.team_keys) == 1


@pytest.mark.parametrize(
    "key", ["two words of a key", "schlüssel-schlüssel", "a-key-with\ttabs-in"]
)
def test_a_key_that_no_header_carries_is_refused(key: str) -> None:
    """It could never be presented, so it is a mistake and is told."""
    found = _find({"CI_KEY": key}, teams=_keys({"env": "CI_KEY"}))

    assert _told(found.unusable) == [
        (
            "teams.design.keys[0].env: the key has characters that no HTTP header carries; "
            "expected ASCII, no spaces"
        )
    ]
    assert found.secrets.team_keys == {}


def test_one_key_for_two_names_is_refused() -> None:
    """Nobody could say whose call it is."""
    teams = _keys({"env": "A"}) | _keys({"sha256": _digest(KEY).hex()}, team="ads")
    found = _find({"A": KEY}, teams=teams)

    assert _told(found.unusable) == ["teams.ads.keys[0]: the same key as teams.design.keys[0]"]


def test_a_provider_key_comes_from_the_environment_or_a_file(tmp_path: Path) -> None:
    """Any length will do: the provider decides what its keys look like."""
    file = tmp_path / "key"
    file.write_text("from-file\n", encoding="utf-8")
    by_name = _find({"EVO": "short"}, providers=_provider(api_key_env="EVO"))
    by_file = _find(providers=_provider(api_key_file=str(file)))

    assert by_name.secrets.provider_keys["evolink"].get_secret_value() == "short"
    assert by_file.secrets.provider_keys["evolink"].get_secret_value() == "from-file"


def test_provider_keys_that_are_missing_or_broken_are_told() -> None:
    """At the setting that names them."""
    missing = _find(providers=_provider(api_key_env="EVO"))
    broken = _find({"EVO": "a b"}, providers=_provider(api_key_env="EVO"))

    assert _told(missing.missing) == [
        "providers.evolink.api_key_env: EVO is not set in the environment"
    ]
    assert len(broken.unusable) == 1
    assert {} == missing.secrets.provider_keys == broken.secrets.provider_keys


def test_the_address_of_the_store_may_come_from_the_environment() -> None:
    """`url_env` is read instead of `url`."""
    found = _find({"STORE": "redis://:hunter22@host"}, redis={"url_env": "STORE"})

    assert found.secrets.redis_url.get_secret_value() == "redis://:hunter22@host"
    assert _find().secrets.redis_url.get_secret_value() == "embedded"


def test_an_address_of_the_store_that_is_missing_or_wrong_is_told() -> None:
    """The embedded server never stands in for one that was asked for without a word."""
    missing = _find(redis={"url_env": "STORE"})
    wrong = _find({"STORE": "hunter22@host"}, redis={"url_env": "STORE"})

    assert _told(missing.missing) == ["redis.url_env: STORE is not set in the environment"]
    assert _told(wrong.unusable) == [
        (
            'redis.url_env: in STORE: expected "embedded", or an address that begins with '
            "redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://"
        )
    ]
    assert wrong.secrets.redis_url.get_secret_value() == "embedded"


def test_secrets_do_not_show() -> None:
    """Neither keys nor digests nor the store's password are printed."""
    environ = {"EVO": "sk-evo-1", "CI_KEY": KEY, "STORE": "redis://:hunter22@host"}
    found = _find(
        environ,
        providers=_provider(api_key_env="EVO"),
        teams=_keys({"env": "CI_KEY"}),
        redis={"url_env": "STORE"},
    )
    shown = repr(found)

    for secret in ("sk-evo-1", KEY, "hunter22", _digest(KEY).hex(), repr(_digest(KEY))):
        assert secret not in shown


@pytest.mark.parametrize(
    ("environ", "key"), [({"GATEWAY_ADMIN_KEY": " k\n"}, "k"), ({"OTHER": "k"}, ""), ({}, "")]
)
def test_the_admin_key_is_read_when_it_is_there(environ: dict[str, str], key: str) -> None:
    """Without one there is no admin API, which is no mistake."""
    found = _find(environ)

    assert (key, ()) == (found.secrets.admin_key.get_secret_value(), found.missing)
    assert "k\n" not in repr(found)


def test_the_webhook_is_a_secret() -> None:
    """Nothing is missing where none is named."""
    url = "https://hooks.slack.com/services/T0/B0/x"
    found = _find({"HOOK": f" {url}\n"}, alerts={"webhook_url_env": "HOOK"})

    assert url == found.secrets.alert_webhook.get_secret_value()
    assert url not in repr(found)
    assert ("", ()) == (_find().secrets.alert_webhook.get_secret_value(), _find().missing)


def test_the_key_of_the_picture_store_is_a_secret() -> None:
    """Both halves come from the variables that are named; what is named and not there is told."""
    assets = {"url": "s3://pictures", "access_key_env": "S3_ID", "secret_key_env": "S3_KEY"}
    found = _find({"S3_ID": "id", "S3_KEY": "s3-secret"}, assets=assets)
    lacking = _find({"S3_ID": "id"}, assets=assets)

    keys = found.secrets.asset_keys
    assert ("id", "s3-secret") == (keys.access.get_secret_value(), keys.secret.get_secret_value())
    assert "s3-secret" not in repr(found)
    assert ["assets.secret_key_env: S3_KEY is not set in the environment"] == _told(lacking.missing)
    assert ("", ()) == (_find().secrets.asset_keys.secret.get_secret_value(), _find().missing)


def test_headers_for_traces_are_secrets() -> None:
    """As OTEL_EXPORTER_OTLP_HEADERS has them: pairs with commas between, percent-encoded."""
    traces = {"headers_env": "HEADERS"}
    found = _find({"HEADERS": "X-Api-Key=a%20b-secret, tenant=7,"}, traces=traces)

    headers = found.secrets.trace_headers
    assert {"x-api-key": "a b-secret", "tenant": "7"} == {
        name: value.get_secret_value() for name, value in headers.items()
    }
    assert "b-secret" not in repr(found)
    assert ({}, ()) == (_find().secrets.trace_headers, _find().missing)
    assert ["traces.headers_env: HEADERS is not set in the environment"] == _told(
        _find(traces=traces).missing
    )


@pytest.mark.parametrize(
    "wrong",
    [
        "the-secret-alone",
        "x-key=the-secret,more",
        "=the-secret",
        "a b=the-secret",
        "x=%0Athe-secret",
    ],
)
def test_headers_that_are_none(wrong: str) -> None:
    """The message does not repeat them."""
    found = _find({"HEADERS": wrong}, traces={"headers_env": "HEADERS"})

    assert ["traces.headers_env: in HEADERS: expected name=value, with commas between"] == _told(
        found.unusable
    )


def test_a_webhook_that_is_not_there() -> None:
    """Is missing, as every secret that is named."""
    found = _find(alerts={"webhook_url_env": "HOOK"})

    assert ["alerts.webhook_url_env: HOOK is not set in the environment"] == _told(found.missing)


def test_a_webhook_that_is_no_address() -> None:
    """The message does not repeat it."""
    found = _find({"HOOK": "T0/B0/x"}, alerts={"webhook_url_env": "HOOK"})
    [problem] = _told(found.unusable)

    assert problem.startswith("alerts.webhook_url_env: in HOOK: expected an address")
    assert "T0" not in problem

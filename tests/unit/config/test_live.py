"""Which settings change while a gateway runs, and what differs between two files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
from pydantic import SecretStr

from gateway.config.json_schema import file_schema
from gateway.config.live import (
    FIXED,
    LIVE,
    changed_secrets,
    changes,
    is_live,
    unchangeable,
    unchangeable_secrets,
)
from gateway.config.load import Loaded, fingerprint_of, load
from gateway.config.problems import dotted
from gateway.config.settings import Settings
from gateway.config.values import Section

FILE = """
[providers.evolink]
kind = "evolink"
api_key_env = "EVO"

[models."gpt-image-1.5"]
routes = ["evolink"]

[teams.design]
budgets = [{ usd = 5, per = "month" }]

[[teams.design.keys]]
name = "ci"
file = "key"
"""

ENVIRON = {"EVO": "sk-evo-4f7a9c1b2d3e", "OTHER": "sk-evo-0b2d3e4f7a9c"}


def settings_of(section: type[Section], *above: str) -> Iterator[str]:
    """Yield every setting of the file down to tables of tables, without operators' names."""
    for name, field in section.model_fields.items():
        place = (*above, field.alias or name)
        kind = field.annotation
        if isinstance(get_origin(kind), type) and issubclass(get_origin(kind), Mapping):
            kind = get_args(kind)[-1]
        if isinstance(kind, type) and issubclass(kind, Section) and ".".join(place) not in CHOSEN:
            yield from settings_of(kind, *place)
        else:
            yield ".".join(place)


CHOSEN = LIVE | FIXED


def test_every_setting_has_chosen() -> None:
    """A new one stands in `LIVE` or in `FIXED`, by itself or with its table; none stands twice."""
    assert sorted(CHOSEN) == sorted(settings_of(Settings))
    assert not LIVE & FIXED


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Write a settings file and the key it names."""
    (tmp_path / "key").write_text("sk-team-0123456789abcdef\n")
    path = tmp_path / "config.toml"
    path.write_text(FILE)
    return path


def changed(path: Path, old: str, new: str) -> tuple[Loaded, Loaded]:
    """Return a file before and after a change of its text."""
    before = load(path, ENVIRON)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return before, load(path, ENVIRON)


@pytest.mark.parametrize(
    ("old", "new", "place", "live"),
    [
        ("usd = 5", "usd = 6", "teams.design.budgets", True),
        ("[teams.design]", '[teams.design]\nkeep = "2d"', "teams.design.keep", True),
        ('"EVO"', '"OTHER"', "providers.evolink.api_key_env", True),
        ('"EVO"', '"EVO"\nmax_in_flight = 7', "providers.evolink.max_in_flight", True),
        ('"EVO"', '"EVO"\ncredits_per_usd = 70', "providers.evolink.credits_per_usd", True),
        ("\n[models", '\n[server]\nwait = "9s"\n\n[models', "server.wait", True),
        ("\n[models", "\n[server]\nport = 8081\n\n[models", "server.port", False),
        ("\n[models", '\n[redis]\nurl = "redis://a"\n\n[models', "redis.url", False),
        ("\n[models", '\n[models.gpt-image-2]\nroutes = ["evolink"]\n\n[models', None, True),
        (
            "\n[models",
            '\n[providers.two]\nkind = "evolink"\napi_key_env = "OTHER"\n\n[models',
            "providers.two",
            False,
        ),
    ],
)
def test_what_differs_is_told_by_its_place(
    path: Path, old: str, new: str, place: str | None, live: bool
) -> None:
    """In the words of the file; what is fixed is refused with the way out."""
    before, after = changed(path, old, new)
    told = [dotted(one) for one in changes(before.settings, after.settings)]

    assert [place or "models.gpt-image-2"] == told
    refused = [f"{place}: cannot change while the gateway runs: restart it"] * (not live)
    assert refused == [str(one) for one in unchangeable(before.settings, after.settings)]


def test_the_same_in_other_words_is_no_change(path: Path) -> None:
    """A comment, a default that is written out; the fingerprint tells that there is another."""
    before, after = changed(path, "\n[models", '\n# More.\n[server]\nwait = "280s"\n\n[models')

    assert () == changes(before.settings, after.settings)
    assert before.fingerprint != after.fingerprint


@pytest.mark.parametrize("whose", ["key", "upstream-key"])
def test_a_key_in_a_file_of_its_own_is_watched_too(path: Path, whose: str) -> None:
    """Its digest is part of the fingerprint, also while the file is gone."""
    path.with_name("upstream-key").write_text("sk-evo-0123456789abcdef\n")
    path.write_text(FILE.replace('api_key_env = "EVO"', 'api_key_file = "upstream-key"'))
    before = load(path, ENVIRON)
    seen = {before.fingerprint, fingerprint_of(path, before.settings)}
    path.with_name(whose).write_text("sk-any-abcdef0123456789\n")
    seen.add(fingerprint_of(path, before.settings))
    path.with_name(whose).unlink()
    seen.add(fingerprint_of(path, before.settings))

    assert 3 == len(seen)


def test_keys_of_teams_and_of_accounts_change(path: Path) -> None:
    """Each is told by its place, and nothing of them; the same is no change."""
    before = load(path, ENVIRON)
    path.with_name("key").write_text("sk-team-abcdef0123456789\n")
    team = load(path, ENVIRON)
    account = load(path, ENVIRON | {"EVO": "sk-evo-next-9c1b2d3e4f7a"})
    path.with_name("upstream-key").write_text("sk-evo-of-a-file-9c1b2d3e\n")
    path.write_text(FILE.replace('api_key_env = "EVO"', 'api_key_file = "upstream-key"'))
    both = load(path, ENVIRON)

    def told(after: Loaded) -> list[str]:
        places = changed_secrets(after.settings, before.secrets, after.secrets)
        assert [] == unchangeable_secrets(before.secrets, after.secrets)
        return [dotted(place) for place in places]

    assert [] == told(before)
    assert ["teams"] == told(team)
    assert ["teams", "providers.evolink.api_key_env"] == told(account)
    assert ["teams", "providers.evolink.api_key_file"] == told(both)


def test_a_secret_that_is_counted_upon_does_not_change(path: Path) -> None:
    """It is open, or handed out, for as long as the process lives."""
    before = load(path, ENVIRON).secrets
    after = replace(before, admin_key=SecretStr("another"))

    assert [] == unchangeable_secrets(before, before)
    assert [
        "server.admin_key_env: the secret cannot change while the gateway runs: restart it"
    ] == [str(one) for one in unchangeable_secrets(before, after)]


def test_headers_for_traces_do_not_change(path: Path) -> None:
    """The exporter has them for as long as the process lives."""
    before = load(path, ENVIRON).secrets
    after = replace(before, trace_headers={"x-api-key": SecretStr("another")})

    assert [] == unchangeable_secrets(after, after)
    assert ["traces.headers_env"] == [one.path for one in unchangeable_secrets(before, after)]


def test_editors_are_told_what_needs_a_restart() -> None:
    """In the schema of the file, at each setting that does."""
    schema: dict[str, Any] = file_schema()
    tables, sections = schema["$defs"], schema["properties"]

    def told(setting: dict[str, Any]) -> bool:
        return bool(setting["description"].endswith("Needs a restart."))

    assert told(sections["redis"])
    assert not told(sections["teams"])
    server = tables["ServerSettings"]["properties"]
    assert {name for name, setting in server.items() if not told(setting)} == {
        name.removeprefix("server.") for name in LIVE if name.startswith("server.")
    }
    provider = tables["ProviderSettings"]["properties"]
    assert {name for name, setting in provider.items() if not told(setting)} == {
        name.removeprefix("providers.") for name in LIVE if name.startswith("providers.")
    }


def test_places_below_a_table_that_is_live_are_live() -> None:
    """Whatever names operators have chosen on the way."""
    assert is_live(("teams", "server", "keys", 0, "sha256"))
    assert is_live(("organization", "budgets"))
    assert not is_live(("providers", "teams"))
    assert not is_live(("providers", "teams", "kind"))


def test_the_page_tells_what_is_live() -> None:
    """An operator finds there each setting that is taken over, and none that needs a restart."""
    page = (Path(__file__).parents[3] / "docs" / "operations.md").read_text(encoding="utf-8")
    _, _, rest = page.partition("## What may change without a restart?")
    table, _, _ = rest.partition("Everything else")
    named = {word.rpartition(".")[2] for word in re.findall(r"`([^`]+)`", table)}

    assert {place.rpartition(".")[2] for place in LIVE} == named

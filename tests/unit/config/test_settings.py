from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
from _pytest.mark import ParameterSet
from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from gateway.config import catalog_rows, price_rows
from gateway.config.load import load
from gateway.config.settings import (
    AssetsSettings,
    CallbacksSettings,
    ModelSettings,
    RedisSettings,
    ServerSettings,
    Settings,
)
from gateway.config.team_settings import KeySettings, LimitsSettings
from gateway.config.values import Section
from gateway.domain.destinations import parse_allowed
from gateway.domain.images import Size

CONFIG = Path(__file__).parents[3] / "config.toml"

#: A setting in the file that is not in force, shown beside the one that is: ``#name = value``.
ALTERNATIVE = re.compile(r"^#(?P<line>(?P<name>[a-z_0-9]+) = .*)$", re.MULTILINE)

#: Settings whose value in the file differs from the default because one of them must be set.
CHOICES = {"api_key_env", "env"}

#: What a file may say of models and prices; docs/models.md shows it.
OF_THE_CATALOG = {
    ModelSettings: set(catalog_rows.ModelRow.model_fields),
    Settings: {"prices", "output_tokens"},
}


def _sections(annotation: Any) -> Iterator[type[Section]]:
    """Walk from a type to the sections inside it, but not into tables of the catalogue.

    Those have a page of their own, docs/models.md.
    """
    if getattr(annotation, "__module__", "") in (catalog_rows.__name__, price_rows.__name__):
        return
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
        for field in annotation.model_fields.values():
            yield from _sections(field.annotation)
    elif get_origin(annotation) is not None:
        for inner in get_args(annotation):
            yield from _sections(inner)


SECTIONS = list(_sections(Settings))
FIELDS = [
    pytest.param(section, name, field, id=f"{section.__name__}.{name}")
    for section in SECTIONS
    for name, field in section.model_fields.items()
]


def _by_toml_name(section: type[Section]) -> dict[str, FieldInfo]:
    return {field.alias or name: field for name, field in section.model_fields.items()}


def _section_in(section: type[Section], name: str) -> type[Section]:
    return next(_sections(_by_toml_name(section)[name].annotation))


def _shown_in_the_file() -> Iterator[tuple[type[Section], str, str]]:
    """Yield everything the file shows: the section it is in, its name and its line."""
    here: type[Section] = Settings
    for line in CONFIG.read_text(encoding="utf-8").splitlines():
        if header := re.match(r"\[+([^\]]+)\]", line):
            here = Settings
            for step in header[1].split("."):
                # Names that the user gives (`design`) are no fields, and are passed over.
                if step in _by_toml_name(here):
                    yield here, step, line
                    here = _section_in(here, step)
        elif setting := re.match(r"#?([a-z_0-9]+) = (.*)", line):
            yield here, setting[1], line
            for inner in re.findall(r"[{,] ([a-z_]+) = ", setting[2]):
                yield _section_in(here, setting[1]), inner, line


def _with_defaults() -> Iterator[ParameterSet]:
    """Yield the settings in force that have a default: the field and its line."""
    for section, name, line in _shown_in_the_file():
        field = _by_toml_name(section)[name]
        if line.startswith(f"{name} = ") and not field.is_required() and name not in CHOICES:
            yield pytest.param(field, line, id=name)


@pytest.mark.parametrize(("section", "name", "field"), FIELDS)
def test_every_setting_says_what_it_means(
    section: type[Section], name: str, field: FieldInfo
) -> None:
    """A setting without a help text cannot be documented."""
    assert (field.description or "").endswith(".")


def test_the_file_shows_every_setting() -> None:
    """By the name it has in TOML, in the section it belongs to, and no other."""
    expected = {
        (section, name)
        for section in SECTIONS
        for name in _by_toml_name(section)
        if name not in OF_THE_CATALOG.get(section, set())
    }

    assert expected == {(section, name) for section, name, _ in _shown_in_the_file()}


def test_the_file_works_as_it_stands() -> None:
    """It loads, and with its two variables set nothing is missing."""
    environ = {"EVOLINK_API_KEY": "any", "DESIGN_CI_KEY": "a-key-of-the-design-team"}
    loaded = load(CONFIG, environ)

    assert loaded.missing_secrets == ()
    assert loaded.settings.providers["evolink"].base_url == "http://127.0.0.1:9100"
    assert loaded.settings.providers["evolink"].result_hosts == ("127.0.0.1:9100",)
    assert loaded.settings.teams["design"].budgets[0].limit_microusd == 50_000_000


@pytest.mark.parametrize(("field", "line"), list(_with_defaults()))
def test_the_file_shows_the_defaults(field: FieldInfo, line: str) -> None:
    """A value in the file is the default, or the default stands in the comment beside it."""
    comment = re.search(r"(?:default|live): (.+)$", line)
    shown = tomllib.loads(f"it = {comment[1]}" if comment else line, parse_float=Decimal)
    parsed = TypeAdapter(field.rebuild_annotation()).validate_python(*shown.values())

    assert field.get_default(call_default_factory=True) == parsed


@pytest.mark.parametrize("found", list(ALTERNATIVE.finditer(CONFIG.read_text(encoding="utf-8"))))
def test_what_is_commented_out_is_a_setting(found: re.Match[str]) -> None:
    """A reader who takes the # away gets a setting that exists, where it stands."""
    text = CONFIG.read_text(encoding="utf-8")
    changed = text[: found.start()] + found["line"] + text[found.end() :]
    document = tomllib.loads(changed, parse_float=Decimal)

    Settings.model_validate(document)


def test_durations_and_sizes_carry_their_unit_in_python() -> None:
    """The file says `wait`, the code reads `wait_ms`."""
    server = ServerSettings.model_validate({"wait": "90s", "max_body": "1MiB", "drain": "0s"})

    assert server.wait_ms == 90_000
    assert server.max_body_bytes == 1_048_576
    assert server.drain_ms == 0


def test_the_name_of_python_is_no_name_of_the_file() -> None:
    """One setting has one name."""
    with pytest.raises(ValidationError):
        ServerSettings.model_validate({"wait_ms": "90s"})


def test_assets_know_their_folder() -> None:
    """A folder for `file:`, none for `memory:`."""
    assert Path("/srv/a") == AssetsSettings.model_validate({"url": "file:/srv/a"}).folder
    assert AssetsSettings.model_validate({"url": "memory:"}).folder is None


def test_secrets_do_not_show() -> None:
    """The store's password and a key's digest stay out of what is printed."""
    redis = RedisSettings.model_validate({"url": "redis://:hunter22@host"})
    key = KeySettings.model_validate({"name": "ci", "sha256": "ab" * 32})

    assert "hunter22" not in f"{redis!r} {redis}"
    assert "abab" not in f"{key!r} {key}"


def test_what_callbacks_may_reach_is_read() -> None:
    """Names and networks become what the guard asks; a mistake is told and not repeated."""
    section = CallbacksSettings.model_validate({"allow": ["hooks.internal", "127.0.0.1:9000"]})

    assert (parse_allowed("hooks.internal"), parse_allowed("127.0.0.1:9000")) == section.allow
    for wrong in ("https://hooks.internal/?token=hunter22", 7, "10.0.0.1/8"):
        with pytest.raises(ValidationError, match="expected a host such as") as caught:
            CallbacksSettings.model_validate({"allow": [wrong]})
        assert "hunter22" not in str(caught.value)


def test_sizes_of_the_help_text_are_sizes() -> None:
    """The example that the file gives for a default size can be used."""
    text = CONFIG.read_text(encoding="utf-8")
    example = re.search(r'such as "(\d+x\d+)" and', text)

    assert example is not None
    assert Size(1024, 1024) == Size.parse(example[1])


def test_limits_that_no_store_could_count_are_refused() -> None:
    """A limit has an upper bound far above any use, and below what the scripts count exactly."""
    assert LimitsSettings(images_per_day=10**9).images_per_day == 10**9
    with pytest.raises(ValidationError):
        LimitsSettings(images_per_day=10**9 + 1)

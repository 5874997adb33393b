"""The schema that editors check a settings file by."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from gateway.config import catalog_rows, price_rows
from gateway.config.json_schema import file_schema

ROOT = Path(__file__).resolve().parents[3]

#: Tables about models and prices, which docs/models.md describes.
OF_THE_CATALOG = {*dir(catalog_rows), *dir(price_rows)}


def mistakes(text: str) -> list[str]:
    """Return where the schema finds a mistake."""
    validator = Draft202012Validator(file_schema())
    return [error.json_path for error in validator.iter_errors(tomllib.loads(text))]


def test_it_is_a_schema() -> None:
    """By the rules of JSON Schema 2020-12."""
    Draft202012Validator.check_schema(file_schema())


@pytest.mark.parametrize("path", ["config.toml", "deploy/compose/config.toml"])
def test_it_takes_the_files_of_the_product(path: str) -> None:
    """Among them the one with every setting there is."""
    assert [] == mistakes((ROOT / path).read_text())


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("[server]\nwiat = '10s'", "$.server"),
        ("[server]\nwait = 10", "$.server.wait"),
        ("[server]\nwait = '10 seconds'", "$.server.wait"),
        ("[teams.design]\nbudgets = [{ usd = 5, per = 'fortnight' }]", "per"),
    ],
)
def test_it_finds_mistakes(text: str, place: str) -> None:
    """Unknown names, and values of the wrong kind."""
    [found] = mistakes(text)
    assert found.endswith(place)


def test_it_takes_the_example_of_a_model() -> None:
    """The page about models shows what editors take."""
    page = (ROOT / "docs" / "models.md").read_text()
    *_, example = re.findall(r"```toml\n(.*?)```", page, flags=re.DOTALL)

    assert [] == mistakes(example)


def test_it_tells_what_settings_mean() -> None:
    """Every setting has the description that the product's types give."""
    schema = file_schema()
    undescribed = [
        f"{name}.{setting}"
        for name, section in schema["$defs"].items()
        for setting, value in section.get("properties", {}).items()
        if not _is_described(value) and name not in OF_THE_CATALOG
    ]

    assert [] == undescribed


def _is_described(value: Any) -> bool:
    return "description" in value or "$ref" in value

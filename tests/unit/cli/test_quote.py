from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli.main import app
from gateway.cli.quote import _lines
from gateway.service.quotes import quote_call
from tests.support.factories import a_model, a_picture, an_offer, an_unpriced_book

CONFIG = """
[providers.evolink]
kind = "evolink"
api_key_env = "EVOLINK_API_KEY"

[models."gpt-image-1.5"]
routes = ["evolink"]
"""


@pytest.fixture
def config(tmp_path: Path) -> str:
    """Write a settings file; its secrets are on no machine."""
    path = tmp_path / "config.toml"
    path.write_text(CONFIG)
    return str(path)


def run(config: str, *options: str) -> tuple[int, str, str]:
    """Run the command."""
    arguments = ["quote", "--config", config, "--model", "gpt-image-1.5", "--prompt", "a fox"]
    done = CliRunner().invoke(app, [*arguments, *options])
    return done.exit_code, done.stdout, done.stderr


def test_a_price_is_told_without_a_server(config: str) -> None:
    """Settings are enough: no store, no secret, no upstream."""
    code, out, _ = run(config, "--quality", "low")

    assert 0 == code
    # 272 image tokens, 5 bytes of prompt, room for 256 tokens of thinking.
    assert "0.010161" in out
    assert "0.007834" in out


def test_several_pictures_are_priced_together(config: str) -> None:
    """As one call for them would be, in every line."""
    _, one, _ = run(config, "--quality", "low", "--json")
    code, out, _ = run(config, "--quality", "low", "--n", "3", "--json")
    _, lines, _ = run(config, "--quality", "low", "--n", "3")

    assert 0 == code
    quoted = json.loads(out)
    assert (3, 3 * 10_161) == (quoted["n"], quoted["hold"]["microusd"])
    assert 10_161 == json.loads(one)["hold"]["microusd"]
    assert "3 pictures" in lines
    assert "0.030483" in lines


def test_a_price_is_told_line_by_line(config: str) -> None:
    """What would be held, what it is made of, what is published, and what each offer asks."""
    _, out, _ = run(config, "--quality", "low", "--references", "2")

    assert [
        ["gpt-image-1.5,", "1024x1024,", "low,", "from", "2", "references"],
        [],
        ["at", "most", "held", "$0.032279"],
        ["text_input", "5", "tokens", "$0.000022"],
        ["image_input", "3072", "tokens", "$0.022119"],
        ["image_output", "272", "tokens", "$0.007834"],
        ["text_output", "256", "tokens", "$0.002304"],
        ["list", "price", "no", "text", "$0.029952"],
        [],
        ["evolink", "gpt-image-1.5", "$0.032279", "chosen"],
    ] == [line.split() for line in out.splitlines()]


def test_json_is_what_the_server_answers(config: str) -> None:
    """One object, for other programs; references are reckoned with."""
    code, out, _ = run(config, "--quality", "low", "--references", "16", "--json")

    told = json.loads(out)
    assert 0 == code
    assert ("edit", 16) == (told["operation"], told["references"])
    assert 16 * 1536 == told["tokens"]["image_input"]


def test_what_has_no_published_price_says_so() -> None:
    """A flat text instead of an amount: nothing is not the same as for nothing."""
    quoted = quote_call(
        a_model(offers=(an_offer(book=an_unpriced_book()),), unpriced_hold_microusd=500_000),
        a_picture(),
    )

    assert ["list price no text no price", "evolink gpt-image-1.5 no price chosen"] == [
        " ".join(line.split()) for line in _lines(quoted) if "no price" in line
    ]


@pytest.mark.parametrize("references", ["-1", "17", "many"])
def test_more_references_than_anybody_takes(config: str, references: str) -> None:
    """A number that no call can have is a usage error."""
    assert 2 == run(config, "--references", references)[0]


@pytest.mark.parametrize(
    "options", [("--size", "9x9"), ("--quality", "ultra"), ("--config", "nowhere.toml")]
)
def test_what_would_be_refused_is_refused(config: str, options: tuple[str, str]) -> None:
    """Exit code 1 and a reason, as for the call itself."""
    code, _, errors = run(config, *options)

    assert 1 == code
    assert errors

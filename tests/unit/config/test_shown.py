"""Settings in force, written as a file."""

from __future__ import annotations

import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from gateway.config.load import load, read
from gateway.config.shown import MASK, masked, shown

ROOT = Path(__file__).resolve().parents[3]

FULL = """
[server]
wait = "90s"

[network]
ca_file = ""

[callbacks]
allow = ["hooks.internal", "10.1.0.0/16"]

[organization]
budgets = [{ usd = 500.25, per = "month", timezone = "Asia/Seoul" }]

[providers.evolink]
kind = "evolink"
api_key_env = "EVOLINK_API_KEY"
credits_per_usd = 68.5

[models."gpt-image-1.5"]
routes = ["evolink"]
unpriced_hold_usd = "0.5"

[teams.design]
budgets = [{ usd = "50", per = "day", alert_at = [0.5, 1] }]
user_budget = { usd = 5, per = "day" }
defaults = { quality = "low" }

[[teams.design.keys]]
name = "ci"
env = "DESIGN_CI_KEY"
expires = 2030-01-31
"""


def test_defaults_are_told_in_the_words_of_the_file(tmp_path: Path) -> None:
    """Where it has words: "0s" would mean the same and tell nobody."""
    (tmp_path / "a.toml").write_text("")

    assert "until_done" == shown(read(tmp_path / "a.toml"))["privacy"]["keep_prompts"]


@pytest.mark.parametrize("text", ["", FULL, (ROOT / "config.toml").read_text()])
def test_what_is_shown_means_the_same(tmp_path: Path, text: str) -> None:
    """Written to a file and read again, it is the same settings, and says the same."""
    original, again = tmp_path / "a.toml", tmp_path / "b.toml"
    original.write_text(text)
    again.write_text(tomli_w.dumps(shown(read(original))))

    assert load(original, {}).settings == load(again, {}).settings
    assert shown(read(again)) == shown(read(original))


def test_every_default_is_shown(tmp_path: Path) -> None:
    """Of tables that the file leaves out, and of fields inside those it has, in its own units."""
    rows: Any = shown(tomllib.loads(FULL, parse_float=Decimal))

    assert ("90s", "10m", "4MiB") == tuple(
        rows["server"][name] for name in ("wait", "deadline", "max_body")
    )
    assert "0s" == rows["server"]["keepalive_after"]
    assert 200 == rows["providers"]["evolink"]["max_in_flight"]
    assert "UTC" == rows["teams"]["design"]["timezone"]
    assert [] == rows["teams"]["design"]["keys"][0]["budgets"]


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("embedded", "embedded"),
        ("", ""),
        ("redis://cache:6379/0", "redis://cache:6379/0"),
        ("redis://user:hunter2@cache:6379/0", f"redis://{MASK}@cache:6379/0"),
        ("redis+cluster://:hunter2@a:1,b:2", f"redis+cluster://{MASK}@a:1,b:2"),
        ("redis+sentinel://a:1/s?sentinel_password=hunter2", f"redis+sentinel://a:1/s?{MASK}"),
        ("unix://:hunter2@/run/valkey.sock", f"unix://{MASK}@/run/valkey.sock"),
        ("hunter2-in-the-wrong-place", MASK),
    ],
)
def test_secrets_are_masked(address: str, told: str) -> None:
    """Of an address, what names its place is shown."""
    assert told == masked(address)


def test_addresses_with_passwords_are_shown_masked() -> None:
    """Wherever the settings may hold one."""
    document = {
        "redis": {"url": "redis://:hunter2@cache"},
        "network": {"proxy": "http://me:hunter2@proxy:3128"},
    }

    assert "hunter2" not in tomli_w.dumps(shown(document))

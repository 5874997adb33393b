"""The admin API of a served gateway: off without a key, refused with a weak one, true with one."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from gateway.assembly.build import build
from gateway.config.load import load
from gateway.config.problems import ConfigError
from tests.support.gateway import ENVIRON, running_gateway, write_config

ADMIN_KEY = "Zk3vQ9-pW7xT2mN8bR5cY1dL"
KEYS = "/admin/v1/teams/design/keys"


async def test_a_key_made_over_http_makes_a_picture_until_it_is_revoked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Created it works at once, revoked the very next call is 401."""
    monkeypatch.setitem(ENVIRON, "GATEWAY_ADMIN_KEY", ADMIN_KEY)
    async with (
        running_gateway(tmp_path) as running,
        httpx.AsyncClient(
            base_url=running.url, headers={"Authorization": f"Bearer {ADMIN_KEY}"}, timeout=30
        ) as admin,
    ):
        made = (await admin.post(KEYS, json={"name": "web"})).json()
        running.client.headers["Authorization"] = f"Bearer {made['key']}"
        before = await running.generate()
        revoked = await admin.delete(f"{KEYS}/web")
        after = await running.generate()

    assert [200, 200, 401] == [answer.status_code for answer in (before, revoked, after)]


async def test_a_gateway_without_an_admin_key_has_no_admin_api(tmp_path: Path) -> None:
    """Not even with a team's key."""
    async with running_gateway(tmp_path) as running:
        answer = await running.client.get(KEYS)

    assert (404, "unknown_url") == (answer.status_code, answer.json()["error"]["code"])


async def test_a_weak_admin_key_is_refused_before_anything_starts(tmp_path: Path) -> None:
    """The setting is named, the key is not repeated, and no store was started."""
    config = write_config(tmp_path, "http://127.0.0.1:1")
    weak = "admin-secret-password-123"
    loaded = load(config, {**ENVIRON, "GATEWAY_ADMIN_KEY": weak})
    with pytest.raises(ConfigError, match=r"server\.admin_key_env: the key is made of") as refusal:
        async with build(loaded):
            raise AssertionError("built")

    assert weak not in str(refusal.value)
    assert not (tmp_path / "valkey").exists()

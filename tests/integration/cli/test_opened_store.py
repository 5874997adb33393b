from __future__ import annotations

from pathlib import Path

import pytest

from gateway.cli.opened_store import opened_store
from gateway.config.load import Loaded, load
from gateway.config.problems import ConfigError
from gateway.store.data_dir import DataDirInUseError
from gateway.store.embedded import EmbeddedServer
from tests.support.valkey import ValkeyProcess


def loaded(folder: Path, redis: str) -> Loaded:
    """Load a settings file that names a store."""
    config = folder / "config.toml"
    config.write_text(f"[redis]\n{redis}\n", encoding="utf-8")
    return load(config, {})


async def test_a_server_that_is_named_is_used(
    valkey_process: ValkeyProcess, tmp_path: Path
) -> None:
    """With redis.url set nothing is started."""
    async with opened_store(loaded(tmp_path, f'url = "{valkey_process.url}"')) as store:
        await store.ping()

    assert ["config.toml"] == [path.name for path in tmp_path.iterdir()]


async def test_an_embedded_server_is_started_for_the_command(tmp_path: Path) -> None:
    """What one command writes, the next one reads; between them no server runs."""
    settings = loaded(tmp_path, 'data_dir = "valkey"')
    async with opened_store(settings) as store:
        await store.command("SET", "k", "v")
    async with opened_store(settings) as store:
        assert b"v" == await store.command("GET", "k")


async def test_the_server_of_a_running_gateway_is_spoken_to(tmp_path: Path) -> None:
    """A command does not disturb the gateway whose directory it is."""
    running = EmbeddedServer(tmp_path / "valkey")
    await running.start()
    try:
        async with opened_store(loaded(tmp_path, 'data_dir = "valkey"')) as store:
            await store.command("SET", "k", "v")
        assert running.running
    finally:
        await running.stop()


async def test_a_directory_whose_server_is_unknown_is_refused(tmp_path: Path) -> None:
    """When a gateway has taken the directory and its server is not up yet, that is said."""
    running = EmbeddedServer(tmp_path / "valkey")
    await running.start()
    (tmp_path / "valkey" / "server.lock").write_bytes(b"")
    try:
        with pytest.raises(DataDirInUseError):
            async with opened_store(loaded(tmp_path, 'data_dir = "valkey"')):
                raise AssertionError("opened")
    finally:
        await running.stop()


async def test_an_address_that_is_not_known_here_is_no_reason_for_another_store(
    tmp_path: Path,
) -> None:
    """With redis.url_env not set, nothing is started and the variable is named."""
    with pytest.raises(ConfigError, match="SHARED_REDIS_URL"):
        async with opened_store(loaded(tmp_path, 'url_env = "SHARED_REDIS_URL"')):
            raise AssertionError("opened")

    assert ["config.toml"] == [path.name for path in tmp_path.iterdir()]

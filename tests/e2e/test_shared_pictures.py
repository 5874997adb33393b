"""Several gateways on one store keep pictures where all of them find them, or do not start."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.assembly.build import build
from gateway.assembly.gateway import Gateway
from gateway.config.load import load
from gateway.config.problems import ConfigError
from gateway.simulator.settings import SimulatorSettings
from tests.support.gateway import ENVIRON, Running, running_gateway, write_config
from tests.support.valkey import ValkeyProcess

AT_ONCE = SimulatorSettings(latency_median_s=0.0, latency_sigma=0.0, seed=7)
SERVER = 'lease = "2s"'

# Emptied: nobody else may be there.
pytestmark = pytest.mark.usefixtures("store")


@dataclass(frozen=True, slots=True)
class First:
    """A gateway with a folder of its own, and what others need to run beside it."""

    running: Running
    redis: str

    @asynccontextmanager
    async def beside(self, folder: Path, assets: str) -> AsyncIterator[Gateway]:
        """Start another gateway, as on another host, with these settings for its pictures."""
        placeholders = {"redis": self.redis, "server": SERVER, "assets": assets}
        config = write_config(folder, self.running.upstream, **placeholders)
        async with build(load(config, ENVIRON)) as gateway:
            yield gateway


@pytest.fixture
async def first(valkey_process: ValkeyProcess, tmp_path: Path) -> AsyncIterator[First]:
    """Serve on a store that others may use; its folder is `one`, theirs may be `two`."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    redis = f'url = "{valkey_process.url}"'
    async with running_gateway(
        tmp_path / "one", simulator=AT_ONCE, redis=redis, server=SERVER
    ) as running:
        yield First(running, redis)


@pytest.mark.parametrize(
    ("assets", "words"), [('url = "file:assets"', "another folder"), ('url = "memory:"', "memory:")]
)
async def test_pictures_that_another_gateway_would_not_find(
    first: First, tmp_path: Path, assets: str, words: str
) -> None:
    """The second one does not start and says why; the first goes on."""
    with pytest.raises(ConfigError, match=words):
        async with first.beside(tmp_path / "two", assets):
            pass
    answer = await first.running.generate()

    assert 200 == answer.status_code


@pytest.mark.parametrize("assets", ['url = "file:../one/assets"', 'url = "file:mounted"'])
async def test_one_folder_by_whatever_name(first: First, tmp_path: Path, assets: str) -> None:
    """It is the same wherever it is mounted: nobody has to declare anything."""
    (tmp_path / "two" / "mounted").symlink_to(tmp_path / "one" / "assets")
    answer = await first.running.generate()
    async with first.beside(tmp_path / "two", assets) as second:
        found = await second.assets.find(f"design/{answer.headers['x-gateway-task-id']}/0")

    assert found is not None


async def test_whoever_says_that_it_is_shared_is_believed(first: First, tmp_path: Path) -> None:
    """Folders that something keeps alike behind our back do not look like one."""
    assets = 'url = "file:assets"\nshared = true'
    async with first.beside(tmp_path / "two", assets) as second:
        assert second.replica.others

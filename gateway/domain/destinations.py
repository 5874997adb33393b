"""Where a call that a client names the address of may go: public addresses, and what is allowed.

An address counts as public when it is global unicast and no registry gives it another purpose; the
tables are IANA's special-purpose registries (RFC 6890 and its updates), written out because
`ipaddress` knows them differently from one Python release to the next. IPv6 forms that hold an
IPv4 address (mapped, 6to4, Teredo, NAT64) are never public: where they lead is decided elsewhere.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_NOT_PUBLIC_4 = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # this network; reaches this host on Linux
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT; Alibaba's metadata service
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure's host agent, in the middle of public addresses
        "169.254.0.0/16",  # link-local; metadata services of most clouds
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments; Oracle's metadata service
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
)

#: All global unicast there is; loopback, mapped, NAT64, unique local and multicast lie outside.
_GLOBAL_6 = IPv6Network("2000::/3")

_NOT_PUBLIC_6 = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # protocol assignments: Teredo, ORCHID, benchmarks
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4
        "3fff::/20",  # documentation
    )
)

#: A name as DNS has it, in lower case and without the last dot. Underscores occur in real names.
_NAME = re.compile(r"(?=.{1,253}$)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_-]{1,63}")

#: What system resolvers take for a number: decimal, octal and hexadecimal (0x7f.1, 017700000001).
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")

_HOST_AND_PORT = re.compile(r"(\[(?P<v6>[^\]]*)\]|(?P<host>[^:]*))(:(?P<port>[0-9]{1,5}))?")
_LAST_PORT = 65_535

_EXPECTED_ALLOWED = (
    'expected a host such as "hooks.internal" or "127.0.0.1:9000", or a network such as'
    ' "10.1.0.0/16"'
)


@dataclass(frozen=True, slots=True)
class Allowed:
    """A destination that an operator vouches for: a name or a network; `port` None is any port."""

    name: str | None
    network: Network | None
    port: int | None

    def takes_name(self, name: str, port: int) -> bool:
        """Tell whether this is the name that was allowed; in lower case, without the last dot."""
        return self.name is not None and self.name == name and self.port in (None, port)

    def takes_address(self, address: Address, port: int) -> bool:
        """Tell whether the address lies in what was allowed."""
        return self.network is not None and address in self.network and self.port in (None, port)


def parse_allowed(text: str) -> Allowed:
    """Read ``host``, ``host:port``, an address, ``[v6]:port`` or a network; else ValueError."""
    try:
        return Allowed(name=None, network=ip_network(text), port=None)
    except ValueError:
        pass
    match = _HOST_AND_PORT.fullmatch(text)
    if match is None:
        raise ValueError(_EXPECTED_ALLOWED)
    port = None if match["port"] is None else _port(match["port"])
    if match["v6"] is not None:
        return Allowed(name=None, network=_only(match["v6"]), port=port)
    name = match["host"].lower().removesuffix(".")
    if is_name(name):
        return Allowed(name=name, network=None, port=port)
    return Allowed(name=None, network=_only(name), port=port)


def is_name(host: str) -> bool:
    """Tell whether a host, in lower case, is a name and no number in any way of writing one."""
    return _NAME.fullmatch(host) is not None and _NUMBER.fullmatch(host.rpartition(".")[2]) is None


def is_public(address: Address) -> bool:
    """Tell whether an address belongs to the public Internet and holds no other one in it."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC_4)
    return address in _GLOBAL_6 and not any(address in network for network in _NOT_PUBLIC_6)


def _only(text: str) -> Network:
    try:
        return ip_network(ip_address(text))
    except ValueError:
        raise ValueError(_EXPECTED_ALLOWED) from None


def _port(text: str) -> int:
    if not 0 < int(text) <= _LAST_PORT:
        raise ValueError(_EXPECTED_ALLOWED)
    return int(text)

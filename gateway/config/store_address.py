"""The address of a store: one server, servers behind Sentinels, or a cluster.

    redis://[user:password@]host[:port][/db]                    rediss:// with TLS
    unix://[user:password@]/path/to/socket[?db=0]
    redis+sentinel://[user:password@]host[:port],…/service[/db]  rediss+sentinel://
    redis+cluster://[user:password@]host[:port],…                rediss+cluster://

The hosts of the last two are where to ask first. As in `addresses.py`, a ValueError says what was
expected and never repeats what was written: it may hold a password.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import parse_qsl, unquote

_URL = re.compile(
    r"(?P<scheme>[a-z+]+)://((?P<login>[^/?#\s]*)@)?(?P<hosts>[^@/?#\s]*)"
    r"(?P<path>/[^?#\s]*)?(\?(?P<options>[^#\s]*))?"
)
_HOST = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._%-]+)(:(?P<port>[0-9]{1,5}))?")
_REDIS_PORT, _SENTINEL_PORT, _LAST_PORT = 6379, 26379, 65535

#: Options of the connection; anything else could undo what the gateway promises (design rule 17).
_TLS_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_SENTINEL_OPTIONS = ("sentinel_username", "sentinel_password")


class Topology(StrEnum):
    """How the servers of a store hang together."""

    ALONE = "alone"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


_SCHEMES = {
    "redis": (Topology.ALONE, False),
    "rediss": (Topology.ALONE, True),
    "unix": (Topology.ALONE, False),
    "redis+sentinel": (Topology.SENTINEL, False),
    "rediss+sentinel": (Topology.SENTINEL, True),
    "redis+cluster": (Topology.CLUSTER, False),
    "rediss+cluster": (Topology.CLUSTER, True),
}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where one server listens: a host and a port, or the path of a unix socket."""

    host: str
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return self.path or f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Login:
    """Who we are to a server; both empty when it does not ask."""

    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Tls:
    """How a server's certificate is checked, and which one we show."""

    #: `ssl_ca_certs`, `ssl_certfile`, `ssl_keyfile`: PEM files, by redis-py's names.
    files: Mapping[str, str]
    check_hostname: bool = True


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """A store: where to ask first, and how to be let in. `service` is what Sentinels call it."""

    topology: Topology
    endpoints: tuple[Endpoint, ...]
    login: Login = Login()
    db: int = 0
    tls: Tls | None = None
    service: str = ""
    sentinel_login: Login = Login()


def parse_store_address(url: str) -> StoreAddress:
    """Return the address that a text stands for; ValueError otherwise."""
    parts = _URL.fullmatch(url)
    if parts is None or parts["scheme"] not in _SCHEMES:
        raise ValueError(
            'expected "embedded", or an address that begins with redis://, rediss://, unix://,'
            " redis+sentinel:// or redis+cluster://"
        )
    topology, with_tls = _SCHEMES[parts["scheme"]]
    options = _options(parts["options"] or "", topology, with_tls=with_tls)
    if parts["scheme"] == "unix":
        if parts["hosts"] or len(unquote(parts["path"] or "")) <= 1:
            raise ValueError('expected the path of a socket, such as "unix:///run/valkey.sock"')
        endpoints: tuple[Endpoint, ...] = (Endpoint("", path=unquote(parts["path"])),)
        service, db = "", options.get("db", "")
    else:
        endpoints = _endpoints(parts["hosts"], topology)
        service, db = _service_and_db(parts["path"] or "", topology, options.get("db", ""))
    return StoreAddress(
        topology=topology,
        endpoints=endpoints,
        login=_login(parts["login"] or ""),
        db=_number(db),
        tls=_tls(options) if with_tls else None,
        service=service,
        sentinel_login=Login(
            options.get("sentinel_username", ""), options.get("sentinel_password", "")
        ),
    )


def _endpoints(text: str, topology: Topology) -> tuple[Endpoint, ...]:
    default = _SENTINEL_PORT if topology is Topology.SENTINEL else _REDIS_PORT
    hosts = [_HOST.fullmatch(host) for host in text.split(",")]
    found = [
        Endpoint(unquote(host["host"]).strip("[]"), int(host["port"] or default))
        for host in hosts
        if host is not None
    ]
    if len(found) < len(hosts) or not all(0 < place.port <= _LAST_PORT for place in found):
        raise ValueError('expected a host, or a host and a port, such as "redis://store:6379"')
    if topology is Topology.ALONE and len(found) > 1:
        raise ValueError("expected one host; several belong to redis+sentinel or redis+cluster")
    return tuple(found)


def _service_and_db(path: str, topology: Topology, option: str) -> tuple[str, str]:
    """Return what stands behind the hosts; the database may also be an option."""
    steps = [unquote(step) for step in path.strip("/").split("/") if step]
    service = ""
    if topology is Topology.SENTINEL:
        if not steps:
            raise ValueError("expected the service's name: redis+sentinel://host:26379/<service>")
        service = steps.pop(0)
    if topology is Topology.CLUSTER and (steps or option):
        raise ValueError("expected no database: a cluster has one only")
    if len(steps) > 1 or (steps and option):
        raise ValueError("expected one number of a database behind the host")
    return service, steps[0] if steps else option


def _login(text: str) -> Login:
    username, _, password = text.partition(":")
    return Login(unquote(username), unquote(password))


def _number(text: str) -> int:
    if not re.fullmatch(r"[0-9]{0,5}", text):
        raise ValueError("expected a number as the database")
    return int(text or 0)


def _options(text: str, topology: Topology, *, with_tls: bool) -> dict[str, str]:
    known = {"db"}
    if with_tls:
        known |= {*_TLS_OPTIONS, "ssl_check_hostname"}
    if topology is Topology.SENTINEL:
        known |= set(_SENTINEL_OPTIONS)
    try:
        options = dict(parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text)))
    except ValueError:
        options = {"": ""}  # the parser's own message repeats what was written
    if options.keys() - known:
        raise ValueError(f"expected no other options than {', '.join(sorted(known))}")
    return options


def _tls(options: Mapping[str, str]) -> Tls:
    check = options.get("ssl_check_hostname", "true").lower()
    if check not in ("true", "false"):
        raise ValueError("expected ssl_check_hostname=true or false")
    files = {name: options[name] for name in _TLS_OPTIONS if name in options}
    return Tls(files=files, check_hostname=check == "true")

"""Which callback targets are taken (protocols/evolink.md §6)."""

import ipaddress
from typing import Any
from urllib.parse import urlsplit

from gateway.simulator.errors import invalid_request

_LENGTH_MAX = 2048


def read_target(value: Any, *, strict: bool) -> str:
    """Return a callback's target, empty for none; raise ``RefusedError`` (400, an assumption).

    ``strict`` is EvoLink's rule: HTTPS, and no private or loopback address. Names are not looked
    up, so that a name of a private address passes.
    """
    if value is None or value == "":
        return ""
    if not isinstance(value, str) or len(value) > _LENGTH_MAX:
        raise invalid_request(
            f"callback_url must be a link of at most {_LENGTH_MAX} characters", "callback_url"
        )
    scheme, host = _parts(value)
    if not host or scheme not in {"http", "https"}:
        raise invalid_request("callback_url must be an http or https link", "callback_url")
    if strict and scheme != "https":
        raise invalid_request("callback_url must be an https link", "callback_url")
    if strict and _private(host):
        raise invalid_request("callback_url must not be in a private network", "callback_url")
    return value


def _parts(value: str) -> tuple[str, str]:
    try:
        link = urlsplit(value)
    except ValueError:
        return "", ""
    return link.scheme, link.hostname or ""


def _private(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return False

"""Addresses and paths as people write them in a settings file.

As in `values.py`, a ValueError says what was expected and never repeats what was written: the
addresses of a store or a proxy may carry a password.
"""

from __future__ import annotations

import re
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainValidator,
    SecretStr,
    Strict,
    ValidationInfo,
)

from gateway.config.store_address import parse_store_address
from gateway.domain.destinations import Allowed, parse_allowed

#: What `redis.url` says when the gateway is to run a server of its own.
EMBEDDED = "embedded"

_HOST = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?|\[[0-9a-f:.]+\]")
#: Without user name, password or query: what opens it is named apart.
_BUCKET_URL = re.compile(r"(s3|gs|az)://[a-z0-9][a-z0-9._-]{1,62}(/[A-Za-z0-9][A-Za-z0-9._-]*)*/?")
#: Also that of a browser's extension.
_ORIGIN_SCHEME = re.compile(r"https?|[a-z]+-extension")
_LAST_PORT = 65535


def check_base_url(url: str) -> str:
    """Return an http(s) address without a slash at its end; ValueError otherwise."""
    parts = _split_url(url)
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError('expected an address such as "https://api.evolink.ai"')
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("expected an address without user name, query or fragment")
    return url.rstrip("/")


def check_listen(address: str) -> str:
    """Return ``host:port`` or nothing; ValueError otherwise."""
    host, _, port = address.lower().rpartition(":")
    if address and (_HOST.fullmatch(host) is None or not (port == "0" or _is_port(port))):
        raise ValueError('expected host and port such as "127.0.0.1:9090", or nothing')
    return address.lower()


def listen_parts(address: str) -> tuple[str, int]:
    """Return host, without brackets, and port of an address that was checked."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def check_optional_url(url: str) -> str:
    """Return an http(s) address, or the empty text that stands for none; else ValueError."""
    parts = _split_url(url)
    if url and (parts is None or parts.scheme not in ("http", "https") or not parts.hostname):
        raise ValueError("expected an address that begins with http:// or https://, or nothing")
    return url


def check_origin(origin: str) -> str:
    """Return the origin of a web page as browsers write it, or ``*``; ValueError otherwise."""
    parts = _split_url(origin)
    is_origin = (
        parts is not None
        and _ORIGIN_SCHEME.fullmatch(parts.scheme) is not None
        and bool(parts.hostname)
        and parts.username is None
        and origin.lower() == f"{parts.scheme}://{parts.netloc}".lower()
    )
    if origin != "*" and not is_origin:
        raise ValueError('expected an origin such as "https://app.example.com", without a path')
    return origin.lower()


def check_result_host(host: str) -> str:
    """Return ``host`` or ``host:port`` in lower case; ValueError otherwise."""
    lowered = host.lower()
    name, colon, port = lowered.rpartition(":")
    if not colon or lowered.endswith("]"):
        name, port = lowered, "443"
    if _HOST.fullmatch(name) is None or not _is_port(port):
        raise ValueError(
            'expected a host such as "files.evolink.ai" or "127.0.0.1:9100", without https://'
        )
    return lowered


def check_trusted_proxy(proxy: str) -> str:
    """Return an address, a network or ``*``; ValueError otherwise."""
    try:
        return proxy if proxy == "*" else str(ip_network(proxy))
    except ValueError:
        raise ValueError(
            'expected an address such as "10.1.2.3", a network such as "10.1.0.0/16", or "*"'
        ) from None


def parse_allowed_destination(text: object) -> Allowed:
    """Return a host or network that callbacks may go to; ValueError for anything else."""
    return parse_allowed(text if isinstance(text, str) else "")


def check_redis_url(url: SecretStr) -> SecretStr:
    """Return ``embedded`` or the address of a store; ValueError otherwise."""
    text = url.get_secret_value()
    if text != EMBEDDED:
        parse_store_address(text)
    return url


def check_proxy_url(url: SecretStr) -> SecretStr:
    """Return the address of an HTTP proxy, or empty; ValueError otherwise."""
    check_optional_url(url.get_secret_value())
    return url


def parse_path(text: object, info: ValidationInfo) -> Path | None:
    """Return a path, relative ones from the folder of the settings file; None for empty text.

    The folder arrives as `context["folder"]`; without one the path stays as it is.
    """
    if not isinstance(text, str | Path) or "\0" in str(text):
        raise ValueError("expected a path")
    return _from_folder(Path(text), info) if text else None


def parse_required_path(text: object, info: ValidationInfo) -> Path:
    """Return a path as `parse_path` does; ValueError also for empty text."""
    path = parse_path(text, info)
    if path is None:
        raise ValueError("expected a path")
    return path


def parse_asset_url(url: object, info: ValidationInfo) -> str:
    """Return where pictures are kept, the path of ``file:`` made absolute; ValueError otherwise."""
    if url in ("memory:", "memory://", "memory:///"):
        return "memory:"
    if isinstance(url, str) and url.startswith(("s3:", "gs:", "az:")):
        if _BUCKET_URL.fullmatch(url) is None:
            raise ValueError('expected a bucket and perhaps a prefix, such as "s3://bucket/prefix"')
        return url.rstrip("/")
    if not isinstance(url, str) or not url.startswith("file:"):
        raise ValueError(
            'expected "file:<folder>", "memory:", "s3://bucket/prefix", "gs://bucket/prefix" or'
            ' "az://container/prefix"'
        )
    text = url.removeprefix("file:")
    if text.startswith("//"):
        text = text.removeprefix("//")
        if not text.startswith("/"):
            raise ValueError('expected a folder of this machine, such as "file:var/assets"')
    if not text or "\0" in text:
        raise ValueError('expected a folder after "file:", such as "file:var/assets"')
    return f"file:{_from_folder(Path(text), info)}"


def _from_folder(path: Path, info: ValidationInfo) -> Path:
    folder = (info.context or {}).get("folder", Path())
    return Path(folder, path)


def _is_port(text: str) -> bool:
    return re.fullmatch(r"[0-9]{1,5}", text) is not None and 0 < int(text) <= _LAST_PORT


def _split_url(url: str) -> SplitResult | None:
    """Return the parts of an address whose port is a number, or None."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return None if any(character.isspace() for character in url) else parts


Port = Annotated[int, Strict(), Field(ge=0, le=_LAST_PORT)]
BaseUrl = Annotated[str, AfterValidator(check_base_url)]
Origin = Annotated[str, AfterValidator(check_origin)]
ListenAddress = Annotated[str, AfterValidator(check_listen)]
OptionalUrl = Annotated[str, AfterValidator(check_optional_url)]
ResultHost = Annotated[str, AfterValidator(check_result_host)]
AllowedDestination = Annotated[Allowed, PlainValidator(parse_allowed_destination)]
TrustedProxy = Annotated[str, AfterValidator(check_trusted_proxy)]
RedisUrl = Annotated[SecretStr, AfterValidator(check_redis_url)]
ProxyUrl = Annotated[SecretStr, AfterValidator(check_proxy_url)]
AssetUrl = Annotated[str, BeforeValidator(parse_asset_url)]
OptionalPath = Annotated[Path | None, BeforeValidator(parse_path)]
RequiredPath = Annotated[Path, BeforeValidator(parse_required_path)]

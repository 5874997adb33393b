"""Watches that no secret is told: each one that a test makes or uses is looked for in what is said.

Known are values of `SecretStr`, bearer tokens of requests, variables of processes whose names say
that they are secret, and anything that looks like a key or a signing secret of the gateway's own.
They are looked for in the output and logs that pytest has captured, logs that tests have captured,
logs of processes, answers that are errors, scrapes of metrics, spans that a collector has received,
and errors' texts.

Keys that are shown on purpose (`keys create`, an admin's answer) are in neither.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import Callable, Iterable, MutableMapping
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx
import structlog
from pydantic import SecretStr

from gateway.access import server_signer
from gateway.config.problems import ConfigError
from gateway.domain.errors import GatewayError
from tests.support.collector import Collector

#: Shorter texts are no secrets anybody could keep.
SHORTEST = 12

#: Keys and signing secrets made by the gateway; whole ones: their beginning may be shown.
_MADE = re.compile(r"\bgw-[a-z0-9][a-z0-9_-]{0,62}-[A-Za-z0-9_-]{43}(?![\w-])|whsec_[\w+/]{40,}=*")
_SECRET_NAMES = re.compile(r"KEY|SECRET|TOKEN|PASSWORD")

_ERRORS = 400


class Watch:
    """What is secret, and where it was told since it was asked for last."""

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._told: list[str] = []

    def know(self, value: object) -> None:
        """Take a value for a secret; of an address only its password, or its path."""
        text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
        for part in _secrets_in(text):
            if len(part) >= SHORTEST and not re.search(r"\s", part):
                self._known.add(part)

    def look(self, where: str, text: str) -> None:
        """Look for secrets in what was said somewhere."""
        found = [secret for secret in self._known if secret in text]
        found += [match[0] for match in _MADE.finditer(text)]
        # As little of it as tells which one it is: reports are read by many.
        self._told += [f"{where}: {secret[:6]}… ({len(secret)} characters)" for secret in found]

    def told(self) -> list[str]:
        """Return what was told since the last time, and forget it."""
        told, self._told = list(dict.fromkeys(self._told)), []
        return told


def _secrets_in(text: str) -> Iterable[str]:
    if "://" not in text:
        return (text,)
    try:
        address = urlsplit(text)
    except ValueError:
        return ()
    if address.password:
        return (address.password, unquote(address.password))
    return (address.path,) if address.scheme in {"http", "https"} else ()


def watch_everything(watch: Watch, patch: Callable[[Any, str, Any], None]) -> None:
    """Let the watch hear of what becomes secret and of what is said; `patch` sets attributes."""
    _hear_of_secrets(watch, patch)
    _hear_of_answers(watch, patch)
    _hear_of_spans(watch, patch)
    _hear_of_processes(watch, patch)


def _hear_of_secrets(watch: Watch, patch: Callable[[Any, str, Any], None]) -> None:
    init, server_secrets = SecretStr.__init__, server_signer.server_secrets

    def hidden(self: SecretStr, secret_value: str) -> None:
        watch.know(secret_value)
        init(self, secret_value)

    async def signing(*words: Any, **options: Any) -> tuple[bytes, ...]:
        secrets = await server_secrets(*words, **options)
        for secret in secrets:
            watch.know(secret)
        return secrets

    patch(SecretStr, "__init__", hidden)
    patch(server_signer, "server_secrets", signing)


def _hear_of_answers(watch: Watch, patch: Callable[[Any, str, Any], None]) -> None:
    send, capture = httpx.AsyncClient.send, structlog.testing.LogCapture.__call__

    async def sent(self: httpx.AsyncClient, request: httpx.Request, **options: Any) -> Any:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme == "Bearer":
            watch.know(token)
        answer = await send(self, request, **options)
        # What upstreams say to the gateway is theirs.
        is_ours = not type(self._transport).__module__.startswith("gateway.")
        is_said = answer.status_code >= _ERRORS or request.url.path == "/metrics"
        if is_ours and is_said and answer.is_stream_consumed:
            watch.look(f"{request.method} {request.url.path}", answer.text)
            watch.look(f"headers of {request.url.path}", str(answer.headers.raw))
        return answer

    def logged(
        self: structlog.testing.LogCapture,
        logger: Any,
        name: str,
        event: MutableMapping[str, Any],
    ) -> Any:
        watch.look("log", str(event))
        return capture(self, logger, name, event)

    patch(httpx.AsyncClient, "send", sent)
    patch(structlog.testing.LogCapture, "__call__", logged)
    for error in (GatewayError, ConfigError):
        patch(error, "__init__", _said(error.__init__, watch))


def _hear_of_spans(watch: Watch, patch: Callable[[Any, str, Any], None]) -> None:
    take = Collector.take

    def taken(self: Collector, request: Any) -> None:
        watch.look("spans", str(request))
        take(self, request)

    patch(Collector, "take", taken)


def _said(init: Callable[..., None], watch: Watch) -> Callable[..., None]:
    def said(self: Exception, *words: Any, **options: Any) -> None:
        init(self, *words, **options)
        watch.look(type(self).__name__, str(self))

    return said


def _hear_of_processes(watch: Watch, patch: Callable[[Any, str, Any], None]) -> None:
    start, popen = asyncio.create_subprocess_exec, subprocess.Popen.__init__
    finish, communicate = asyncio.subprocess.Process.communicate, subprocess.Popen.communicate

    def know(environ: Any) -> None:
        for name, value in dict(environ or {}).items():
            if _SECRET_NAMES.search(str(name)) and not str(name).endswith("_ENV"):
                watch.know(value)

    def look(out: Any, err: Any) -> None:
        # A command may show a key on its output; a log may not.
        watch.look("log of a process", "\n".join(filter(_is_logged, _text(out).splitlines())))
        watch.look("stderr of a process", _text(err))

    async def started(*words: Any, **options: Any) -> Any:
        know(options.get("env"))
        return await start(*words, **options)

    def opened(self: Any, *words: Any, **options: Any) -> None:
        know(options.get("env"))
        popen(self, *words, **options)

    async def finished(self: Any, *words: Any) -> Any:
        out, err = await finish(self, *words)
        look(out, err)
        return out, err

    def communicated(self: Any, *words: Any, **options: Any) -> Any:
        out, err = communicate(self, *words, **options)
        look(out, err)
        return out, err

    patch(asyncio, "create_subprocess_exec", started)
    patch(subprocess.Popen, "__init__", opened)
    patch(asyncio.subprocess.Process, "communicate", finished)
    patch(subprocess.Popen, "communicate", communicated)


def _is_logged(line: str) -> bool:
    return '"level":' in line and '"event":' in line


def _text(said: bytes | str | None) -> str:
    return said.decode(errors="replace") if isinstance(said, bytes) else said or ""

"""`gateway serve`: the server, in this process or with workers."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import Callable
from contextlib import ExitStack
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import tomli_w
import typer
import uvloop

from gateway.app import listen, reload_on_signal, stop_on_signals
from gateway.app import serve as serve_app
from gateway.assembly.build import build
from gateway.assembly.reloader import Reloader
from gateway.cli.books import refuse
from gateway.cli.collector import collect_seldom
from gateway.cli.fault_points import FAULT_ENV, fault_point
from gateway.cli.options import SETTINGS, Config, Json
from gateway.cli.refusals import REFUSALS, lines_of
from gateway.cli.workers import WorkersRefusedError, serve_with_workers
from gateway.config.addresses import listen_parts
from gateway.config.load import Loaded, load, process_environ, read
from gateway.config.problems import ConfigError
from gateway.config.settings import ServerSettings
from gateway.config.shown import shown
from gateway.edge.connections import take_descriptors
from gateway.telemetry.log import configure_logging


def serve(
    config: Config = SETTINGS,
    host: Annotated[str | None, typer.Option(help="Instead of server.host.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Instead of server.port.")
    ] = None,
    workers: Annotated[
        int, typer.Option(min=1, max=64, help="Processes that serve; one for each core.")
    ] = 1,
    *,
    print_config: Annotated[
        bool,
        typer.Option("--print-config", help="Print the settings in force, secrets masked; exit."),
    ] = False,
    json_output: Json = False,
) -> None:
    """Serve OpenAI's Images API until it is stopped."""
    if print_config:
        _print_config(config, json_output=json_output)
        return
    configure_logging()
    collect_seldom()
    take_descriptors()
    try:
        loaded = load(config, process_environ())
        configure_logging(form=loaded.settings.log.format)
        loaded.require_secrets()
        if workers > 1 and loaded.settings.assets.url == "memory:":
            refuse("assets.url: workers share no memory: set it to a folder, or serve with one.")
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            tell = _tell_as_json if json_output else _tell
            runner.run(_serve(config, loaded, host, port, workers=workers, tell=tell))
    except REFUSALS as error:
        refuse(*lines_of(error, config))
    except WorkersRefusedError as error:
        refuse(*error.lines)


def _print_config(config: Path, *, json_output: bool) -> None:
    try:
        load(config, process_environ())
        settings = shown(read(config))
        text = json.dumps(settings, indent=2, default=_plain) if json_output else _toml(settings)
        typer.echo(text)
    except ConfigError as error:
        refuse(*lines_of(error, config))


def _plain(value: object) -> object:
    """Return as JSON has it what TOML has types for: days are text."""
    return float(value) if isinstance(value, Decimal) else str(value)


def _toml(settings: dict[str, Any]) -> str:
    return tomli_w.dumps(settings).rstrip()


def _tell(listening: str, operators: str | None) -> None:
    lines = [f"gateway: listening on {listening}"]
    if operators is not None:
        lines.append(f"gateway: admin API and metrics on {operators}")
    typer.echo("\n".join(lines))


def _tell_as_json(listening: str, operators: str | None) -> None:
    typer.echo(json.dumps({"listening": listening, "operators": operators}))


async def _serve(
    config: Path,
    loaded: Loaded,
    host: str | None,
    port: int | None,
    *,
    workers: int,
    tell: Callable[[str, str | None], None],
) -> None:
    server = loaded.settings.server
    _check_tls(server)
    scheme = "http" if server.tls_cert is None else "https"
    stop = asyncio.Event()
    stop_on_signals(stop)
    with ExitStack() as stack:
        listener = stack.enter_context(
            _listener(server.host if host is None else host, server.port if port is None else port)
        )
        operators = told = None
        if server.admin_listen:
            operators = stack.enter_context(_listener(*listen_parts(server.admin_listen)))
            told = _address(scheme, operators)
        on_started = partial(tell, f"{_address(scheme, listener)}/v1", told)
        if workers > 1:
            await serve_with_workers(
                config,
                loaded,
                listener,
                operators=operators,
                count=workers,
                stop=stop,
                on_started=on_started,
            )
            return
        reached = fault_point(process_environ().get(FAULT_ENV, ""))
        async with build(loaded, reached=reached) as gateway:
            reloader = Reloader(
                gateway, loaded, path=config, read=partial(load, config, process_environ())
            )
            reload_on_signal(reloader)
            await serve_app(
                gateway,
                listener,
                operators=operators,
                stop=stop,
                on_started=on_started,
                reloader=reloader,
            )


def _listener(host: str, port: int) -> socket.socket:
    try:
        return listen(host, port)
    except OSError as error:
        # Python adds the address in words of its own.
        reason = str(error.strerror).partition(" (")[0]
        refuse(f"cannot listen on {host}:{port}: {reason}.")


def _address(scheme: str, listener: socket.socket) -> str:
    return "{}://{}:{}".format(scheme, *listener.getsockname()[:2])


def _check_tls(server: ServerSettings) -> None:
    """Refuse a certificate that no client could be shown, before anything is started."""
    if server.tls_cert is None or server.tls_key is None:
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(server.tls_cert, server.tls_key)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or "unreadable"
        refuse(f"server.tls_cert and server.tls_key cannot be used: {reason}")

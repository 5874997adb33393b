"""`gateway serve`: the server."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, NoReturn

import typer
import uvloop

from gateway.app import LoopDiedError, listen, stop_on_signals
from gateway.app import serve as serve_app
from gateway.assembly import build
from gateway.assets.interface import AssetUnavailableError
from gateway.cli.collector import collect_seldom
from gateway.cli.fault_points import FAULT_ENV, fault_point
from gateway.config.load import Loaded, load, process_environ
from gateway.config.problems import ConfigError
from gateway.store.embedded import EmbeddedServerError
from gateway.telemetry.log import configure_logging


def serve(
    config: Annotated[Path, typer.Option(help="The settings file.")] = Path("config.toml"),
    host: Annotated[str | None, typer.Option(help="Instead of server.host.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Instead of server.port.")
    ] = None,
) -> None:
    """Serve OpenAI's Images API until it is stopped."""
    configure_logging()
    collect_seldom()
    try:
        loaded = load(config, process_environ())
        loaded.require_secrets()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(loaded, host, port))
    except ConfigError as error:
        _refuse(f"{config} cannot be used:", *(str(problem) for problem in error.problems))
    except (EmbeddedServerError, AssetUnavailableError, LoopDiedError) as error:
        _refuse(str(error))


async def _serve(loaded: Loaded, host: str | None, port: int | None) -> None:
    host = loaded.settings.server.host if host is None else host
    port = loaded.settings.server.port if port is None else port
    stop = asyncio.Event()
    stop_on_signals(stop)
    try:
        listener = listen(host, port)
    except OSError as error:
        _refuse(f"cannot listen on {host}:{port}: {error.strerror}")
    with listener:
        address = "http://{}:{}".format(*listener.getsockname()[:2])
        reached = fault_point(process_environ().get(FAULT_ENV, ""))
        async with build(loaded, reached=reached) as gateway:
            await serve_app(
                gateway,
                listener,
                stop=stop,
                on_started=lambda: typer.echo(f"gateway: listening on {address}/v1"),
            )


def _refuse(*lines: str) -> NoReturn:
    for line in lines:
        typer.echo(f"gateway: {line}", err=True)
    raise typer.Exit(1)

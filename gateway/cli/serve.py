"""`gateway serve`: the server, in this process or with workers."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Annotated

import tomli_w
import typer
import uvloop

from gateway.app import listen, stop_on_signals
from gateway.app import serve as serve_app
from gateway.assembly import build
from gateway.cli.books import refuse
from gateway.cli.collector import collect_seldom
from gateway.cli.fault_points import FAULT_ENV, fault_point
from gateway.cli.refusals import REFUSALS, lines_of
from gateway.cli.workers import WorkersRefusedError, serve_with_workers
from gateway.config.load import Loaded, load, process_environ, read
from gateway.config.problems import ConfigError
from gateway.config.shown import shown
from gateway.telemetry.log import configure_logging


def serve(
    config: Annotated[Path, typer.Option(help="The settings file.")] = Path("config.toml"),
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
) -> None:
    """Serve OpenAI's Images API until it is stopped."""
    if print_config:
        _print_config(config)
        return
    configure_logging()
    collect_seldom()
    try:
        loaded = load(config, process_environ())
        loaded.require_secrets()
        if workers > 1 and loaded.settings.assets.url == "memory:":
            refuse("assets.url: workers share no memory: set it to a folder, or serve with one.")
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(config, loaded, host, port, workers))
    except REFUSALS as error:
        refuse(*lines_of(error, config))
    except WorkersRefusedError as error:
        refuse(*error.lines)


def _print_config(config: Path) -> None:
    try:
        load(config, process_environ())
        typer.echo(tomli_w.dumps(shown(read(config))), nl=False)
    except ConfigError as error:
        refuse(*lines_of(error, config))


async def _serve(
    config: Path, loaded: Loaded, host: str | None, port: int | None, workers: int
) -> None:
    host = loaded.settings.server.host if host is None else host
    port = loaded.settings.server.port if port is None else port
    stop = asyncio.Event()
    stop_on_signals(stop)
    try:
        listener = listen(host, port)
    except OSError as error:
        refuse(f"cannot listen on {host}:{port}: {error.strerror}")
    with listener:
        address = "http://{}:{}".format(*listener.getsockname()[:2])
        on_started = partial(typer.echo, f"gateway: listening on {address}/v1")
        if workers > 1:
            await serve_with_workers(
                config, loaded, listener, count=workers, stop=stop, on_started=on_started
            )
            return
        reached = fault_point(process_environ().get(FAULT_ENV, ""))
        async with build(loaded, reached=reached) as gateway:
            await serve_app(gateway, listener, stop=stop, on_started=on_started)

"""``gateway simulate``: the EvoLink simulator as a server of its own."""

import contextlib
import socket
from typing import Annotated

import typer
import uvicorn

from gateway.simulator.app import create_simulator
from gateway.simulator.settings import SimulatorSettings


def simulate(
    *,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 9100,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    latency_median: Annotated[
        float, typer.Option(min=0, help="Median of the render time, in seconds.")
    ] = 8.0,
    latency_sigma: Annotated[
        float, typer.Option(min=0, help="Sigma of the lognormal render time; 0 is constant.")
    ] = 0.5,
    seed: Annotated[
        int | None, typer.Option(help="Makes ids, latencies and pictures repeat.")
    ] = None,
) -> None:
    """Run a stand-in for EvoLink: real pictures, real bookkeeping, no spending."""
    settings = SimulatorSettings(
        latency_median_s=latency_median, latency_sigma=latency_sigma, seed=seed
    )
    config = uvicorn.Config(
        create_simulator(settings),
        host=host,
        port=port,
        log_level="warning",
        lifespan="off",
        ws="none",
    )
    # Bound before it is announced: the line is true, and names the port that 0 stands for.
    with contextlib.closing(_bound(config)) as listening:
        typer.echo(_announcement(host, listening.getsockname()[1]))
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listening])


def _bound(config: uvicorn.Config) -> socket.socket:
    try:
        return config.bind_socket()
    except SystemExit:
        # uvicorn has said why; our exit code for a refusal is 1.
        raise typer.Exit(1) from None


def _announcement(host: str, port: int) -> str:
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{port}"
    return (
        f"EvoLink simulator listening on {url} - in config.toml: [providers.evolink] "
        f'base_url = "{url}", result_hosts = ["{shown}:{port}"]; any EVOLINK_API_KEY will do'
    )

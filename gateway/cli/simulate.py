"""``gateway simulate``: the EvoLink simulator as a server of its own."""

import contextlib
import json
import socket
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated

import typer
import uvicorn

from gateway.cli.options import Json
from gateway.simulator.app import create_simulator
from gateway.simulator.latency import Profile, read_profile
from gateway.simulator.rules import Rule, RulesError, load_rules
from gateway.simulator.settings import (
    Envelope,
    FilesErrors,
    Idempotency,
    References,
    RetryAfter,
    Shape,
    SimulatorSettings,
)


def _profile(text: str) -> Profile:
    try:
        return read_profile(text)
    except ValueError as mistake:
        raise typer.BadParameter(str(mistake)) from None


def _credits(text: str) -> Decimal:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal("NaN")
    if not (amount.is_finite() and amount >= 0):
        raise typer.BadParameter("not an amount of credits")
    return amount


def simulate(
    *,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 9100,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    public_url: Annotated[
        str, typer.Option(help="Base of result links; empty takes it from each request.")
    ] = "",
    latency_median: Annotated[
        float, typer.Option(min=0, help="Median of the render time, in seconds.")
    ] = 8.0,
    latency_sigma: Annotated[
        float, typer.Option(min=0, help="Sigma of the lognormal render time; 0 is constant.")
    ] = 0.5,
    latency_profile: Annotated[
        str, typer.Option(help="lognormal, bimodal[:SHARE[:FACTOR]] or drift[:SECONDS[:FACTOR]].")
    ] = "lognormal",
    seed: Annotated[
        int | None, typer.Option(help="Makes ids, latencies, pictures and faults repeat.")
    ] = None,
    faults: Annotated[
        Path | None, typer.Option(help="TOML or JSON file of faults: docs/simulator.md.")
    ] = None,
    balance: Annotated[str, typer.Option(help="Credits of the account.")] = "100000",
    max_in_flight: Annotated[
        int | None, typer.Option(min=1, help="Unfinished tasks at a time; more is 429.")
    ] = None,
    submits_per_second: Annotated[
        float | None, typer.Option(min=0.001, help="Submits a second; more is 429.")
    ] = None,
    retry_after: Annotated[
        RetryAfter, typer.Option(help="Form of Retry-After on a 429.")
    ] = RetryAfter.SECONDS,
    idempotency: Annotated[
        Idempotency, typer.Option(help="What a repeated Idempotency-Key does.")
    ] = Idempotency.IGNORED,
    references: Annotated[
        References, typer.Option(help="When reference images are fetched and checked.")
    ] = References.TASK,
    plain_pictures: Annotated[
        bool, typer.Option("--plain-pictures", help="Grey pictures, which cost nothing to draw.")
    ] = False,
    strict_callbacks: Annotated[
        bool,
        typer.Option(
            "--strict-callbacks", help="Refuse callbacks without TLS or to private addresses."
        ),
    ] = False,
    shape: Annotated[Shape, typer.Option(help="Form of task bodies.")] = Shape.LIVE,
    envelope: Annotated[Envelope, typer.Option(help="Form of error bodies.")] = Envelope.STRING,
    files_quota: Annotated[int, typer.Option(min=0, help="Most uploaded files.")] = 2000,
    files_errors: Annotated[
        FilesErrors, typer.Option(help="HTTP status of the file service's errors.")
    ] = FilesErrors.STATUS,
    json_output: Json = False,
) -> None:
    """Run a stand-in for EvoLink: real pictures, real bookkeeping, no spending."""
    settings = SimulatorSettings(
        latency_median_s=latency_median,
        latency_sigma=latency_sigma,
        latency_profile=_profile(latency_profile),
        seed=seed,
        credits_balance=_credits(balance),
        public_url=public_url,
        shape=shape,
        envelope=envelope,
        retry_after=retry_after,
        idempotency=idempotency,
        references=references,
        plain_pictures=plain_pictures,
        strict_callbacks=strict_callbacks,
        max_in_flight=max_in_flight,
        submits_per_second=submits_per_second,
        files_quota=files_quota,
        files_errors=files_errors,
    )
    config = uvicorn.Config(
        create_simulator(settings, rules=_rules(faults)),
        host=host,
        port=port,
        log_level="warning",
        lifespan="off",
        ws="none",
    )
    # Before it is announced: whoever reads the line can call, at the port that 0 stands for.
    with contextlib.closing(_listening(config)) as listening:
        typer.echo(_announcement(host, listening.getsockname()[1], json_output=json_output))
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listening])


def _rules(path: Path | None) -> tuple[Rule, ...]:
    if path is None:
        return ()
    try:
        return load_rules(path)
    except RulesError as mistake:
        typer.echo(f"Error: {mistake}", err=True)
        raise typer.Exit(1) from None


def _listening(config: uvicorn.Config) -> socket.socket:
    try:
        bound = config.bind_socket()
    except SystemExit:
        # uvicorn has said why; our exit code for a refusal is 1.
        raise typer.Exit(1) from None
    try:
        # uvicorn only binds: until it serves, callers would be refused.
        bound.listen(config.backlog)
    except OSError as error:
        bound.close()
        typer.echo(f"Error: cannot listen on {config.host}:{config.port}: {error}", err=True)
        raise typer.Exit(1) from None
    return bound


def _announcement(host: str, port: int, *, json_output: bool) -> str:
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{port}"
    if json_output:
        return json.dumps({"listening": url, "result_hosts": [f"{shown}:{port}"]})
    return (
        f"EvoLink simulator listening on {url} - in config.toml: [providers.evolink] "
        f'base_url = "{url}", result_hosts = ["{shown}:{port}"]; any EVOLINK_API_KEY will do'
    )

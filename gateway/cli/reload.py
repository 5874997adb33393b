"""`gateway reload`: check a settings file, then have every gateway that runs take over its own."""

from __future__ import annotations

import asyncio
import json
import secrets as randomness
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NoReturn

import typer

from gateway.background import SystemClock
from gateway.cli.books import refuse
from gateway.cli.options import SETTINGS, Config, Json
from gateway.config.addresses import EMBEDDED
from gateway.config.load import Loaded, load, process_environ
from gateway.config.problems import ConfigError, Problem
from gateway.domain.errors import StoreUnavailable
from gateway.store.client import Store
from gateway.store.notes import embedded_url
from gateway.tasks.reload_calls import Answer, Outcome, ReloadCalls

#: Answers that come later are not waited for.
WITHIN_S = 10.0

_CALL_BYTES = 8
_URL_ENV = "redis.url_env"

#: Nobody to ask: there is no server of our own, or nobody renews a place in the store.
NOBODY = "no gateway runs on the store of {config}: it will read the file when it starts."


def reload(*, config: Config = SETTINGS, json_output: Json = False) -> None:
    """Have every gateway that runs take over its changed settings file.

    The file is checked here first. Then each process on the store reads its own file, tells what
    it took, and refuses it whole when it cannot; one line for each. Exit code 1 when one refused or
    did not answer.
    """
    try:
        loaded = load(config, process_environ())
    except ConfigError as error:
        _refuse(error.problems)
    if unknown := [each for each in loaded.missing_secrets if each.path == _URL_ENV]:
        _refuse(unknown)
    answers = asyncio.run(_ask(config, loaded))
    if json_output:
        rows = [_row(replica, answer) for replica, answer in answers.items()]
        typer.echo(json.dumps(rows, indent=2))
    else:
        for replica, answer in answers.items():
            for line in _lines(replica, answer):
                typer.echo(line)
    if any(answer is None or answer.outcome is Outcome.REFUSED for answer in answers.values()):
        raise typer.Exit(1)


async def _ask(config: Path, loaded: Loaded) -> Mapping[str, Answer | None]:
    """Return what each replica answered, None where it did not."""
    is_ours = loaded.secrets.redis_url.get_secret_value() == EMBEDDED
    try:
        async with _running_store(loaded) as store:
            calls = ReloadCalls(store, SystemClock())
            replicas = await calls.replicas(lease_s=loaded.settings.server.lease_ms / 1000)
            if not replicas:
                refuse(NOBODY.format(config=config))
            name = randomness.token_hex(_CALL_BYTES)
            answers = await calls.ask(replicas, call=name, within_s=WITHIN_S)
    except StoreUnavailable:
        refuse(NOBODY.format(config=config) if is_ours else "the store did not answer in time.")
    return {replica: answers.get(replica) for replica in replicas}


@asynccontextmanager
async def _running_store(loaded: Loaded) -> AsyncIterator[Store]:
    """Open the store; one of our own only where it runs. Raises StoreUnavailable."""
    settings = loaded.settings.redis
    url = loaded.secrets.redis_url.get_secret_value()
    if url == EMBEDDED:
        url = embedded_url(settings.data_dir)
        if not url:
            raise StoreUnavailable
    async with Store(url, timeout_ms=settings.timeout_ms) as store:
        yield store


def _row(replica: str, answer: Answer | None) -> dict[str, object]:
    if answer is None:
        return {"replica": replica, "outcome": "silent", "lines": []}
    return {"replica": replica, "outcome": answer.outcome, "lines": list(answer.lines)}


def _lines(replica: str, answer: Answer | None) -> list[str]:
    if answer is None:
        return [f"{replica}: did not answer within {WITHIN_S:.0f} s"]
    match answer.outcome:
        case Outcome.TAKEN:
            return [f"{replica}: taken: {', '.join(answer.lines)}"]
        case Outcome.UNCHANGED:
            return [f"{replica}: unchanged"]
    return [f"{replica}: refused", *(f"  {line}" for line in answer.lines)]


def _refuse(problems: Sequence[Problem]) -> NoReturn:
    """Say what `gateway check` says of a file, and end."""
    for problem in problems:
        typer.echo(str(problem), err=True)
    raise typer.Exit(1)

"""The newest stock clients, each in an environment of its own, play all of their cases."""

from __future__ import annotations

import pytest
from rich.console import Console

from tests.clients.run import CASES, clients_played, known_clients


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_the_newest_clients_are_content() -> None:
    """All cases of each are green, retries order once, and the books are the upstream's."""
    clients, node = known_clients()
    newest = [client for client in clients if client.newest]
    rows, off = await clients_played(newest, node, Console(quiet=True))
    away = [row.skipped for row in rows if row.unreachable]
    wrong = {
        row.client.label: row.skipped or {case: why for case, why in row.wrong.items() if why}
        for row in rows
        if not (row.is_green or row.unreachable)
    }

    assert {} == wrong
    assert 0 == off
    if away:
        pytest.skip("; ".join(away))


def test_what_a_client_lacks_is_a_case() -> None:
    """A reason for a case that there is not would hide one that is."""
    clients, _ = known_clients()

    assert {case for client in clients for case in client.lacks} <= set(CASES)
    assert len(clients) == len({client.label for client in clients})

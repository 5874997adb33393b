"""Whatever form a client sends, however it sends it: an answer, exact books, and nothing left."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import h11
import httpx
import pytest
from hypothesis import settings
from hypothesis import strategies as st

from tests.support.forms import ENDLESS, NO_HTTP, Attempt, Manner, attempts
from tests.support.fuzzing import (
    HANGS_S,
    LONG_S,
    SHORT,
    Fuzzed,
    assert_level,
    for_minutes,
    fuzzed_gateway,
    log,
    serving_upstream_at_once,
    tried_with,
)
from tests.support.gateway import TEAM_KEY
from tests.support.processes import files_below, open_descriptors, open_files

#: Rounds of this many calls at a time.
EXAMPLES, CALLS_AT_ONCE = 6, 10
EXAMPLES_OF_A_ROUND = 25

#: Little patience and little room, so that both are tried.
SERVER = 'body_timeout = "500ms"\nmax_upload = "600KiB"\nmax_body = "128KiB"'

#: Statuses of refusals. What is no HTTP at all the server refuses before the product sees it.
REFUSALS = {400, 403, 408, 413, 422}
NO_HTTP_TEXT = b"Invalid HTTP request received."

#: What an idle gateway has open, connections to its store above all, is some thirty.
MAY_STAY_OPEN = 48

#: What a drip brings, and for how long it does.
DRIPS, DRIP_S = 40, 0.002


class Sender:
    """Makes calls over sockets of their own, and judges what comes back."""

    def __init__(self, gateway: Fuzzed) -> None:
        self._host, _, port = gateway.client.base_url.netloc.decode().partition(":")
        self._port = int(port)
        self.answers: Counter[str] = Counter()

    async def send(self, calls: list[Attempt]) -> None:
        """Make some at once; raise AssertionError for an answer that no client understands."""
        async with asyncio.TaskGroup() as group:
            for call in calls:
                group.create_task(self._one(call))

    async def _one(self, call: Attempt) -> None:
        try:
            async with asyncio.timeout(HANGS_S):
                answer = await self._answered(call)
        except TimeoutError:
            raise AssertionError(f"it hangs: {call}") from None
        self.answers[self._judge(call, answer)] += 1

    async def _answered(self, call: Attempt) -> tuple[int, bytes] | None:
        reader, writer = await asyncio.open_connection(self._host, self._port)
        try:
            async with asyncio.TaskGroup() as group:
                sending = group.create_task(_sent(call, writer))
                answer = None if call.manner is Manner.LEAVING else await _answer(reader)
                sending.cancel()
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
        return answer

    def _judge(self, call: Attempt, answer: tuple[int, bytes] | None) -> str:
        if answer is None:
            # One that says it is done sending, and is not, is not answered; nor is one that left.
            left = call.manner in (Manner.LEAVING, Manner.CLOSING)
            assert left or call.framing in ENDLESS | NO_HTTP, call
            return "none"
        status, body = answer
        if body == NO_HTTP_TEXT:
            assert call.framing in NO_HTTP, call
            return "no HTTP"
        if status == httpx.codes.OK:
            whole = body.endswith(b"\n\n") if body.startswith(b"event: ") else json.loads(body)
            assert whole, call
            return "200"
        assert status in REFUSALS, (call, status, body[:500])
        error = json.loads(body)["error"]
        assert {"message", "type", "param", "code"} <= error.keys(), (call, body)
        return f"{status} {error['code']}"


async def _sent(call: Attempt, writer: asyncio.StreamWriter) -> None:
    """Send a call in its manner; whoever has an answer already need not take the rest."""
    with suppress(OSError):
        writer.write(call.head(TEAM_KEY))
        body = call.sent()
        match call.manner:
            case Manner.IN_PIECES:
                for start in range(0, len(body), 3_001):
                    writer.write(body[start : start + 3_001])
                    await writer.drain()
                    await asyncio.sleep(0)
            case Manner.DRIPPING:
                for place in range(min(len(body), DRIPS)):
                    writer.write(body[place : place + 1])
                    await asyncio.sleep(DRIP_S)
                writer.write(body[DRIPS:])
            case Manner.LEAVING:
                writer.write(body[: len(body) // 2])
                await writer.drain()
                await asyncio.sleep(DRIP_S)
                writer.transport.abort()
            case _:
                writer.write(body)
        await writer.drain()
        if call.manner is Manner.CLOSING:
            writer.write_eof()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes] | None:
    """Return status and body of the answer; None when the connection ends without one."""
    parser = h11.Connection(h11.CLIENT)
    parser.send(h11.Request(method="POST", target="/", headers=[("host", "x")]))
    status, body = 0, b""
    while True:
        try:
            event = parser.next_event()
            if event is h11.NEED_DATA:
                parser.receive_data(await reader.read(1 << 16))
        except (OSError, h11.RemoteProtocolError):
            assert not status, (status, body[:500])
            return None
        if isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            return status, body


async def play(sender: Sender, tried: settings) -> None:
    """Try calls until hypothesis has had enough."""
    drawn = st.lists(attempts(), min_size=CALLS_AT_ONCE // 2, max_size=CALLS_AT_ONCE)
    await tried_with(drawn, sender.send, tried)


@pytest.fixture
async def upstream() -> AsyncIterator[str]:
    """Simulate an upstream that draws nothing and is done at once."""
    async with serving_upstream_at_once() as url:
        yield url


async def assert_nothing_left(gateway: Fuzzed, upstream: str, folder: Path) -> None:
    """Every picture is paid for once, no task is open, nothing is open or kept of any form."""
    spent = await gateway.settle()
    async with httpx.AsyncClient(base_url=upstream, timeout=30) as simulator:
        stats = (await simulator.get("/_sim/stats")).json()
    spool, assets = folder / "var" / "spool", folder / "assets"
    async with asyncio.timeout(HANGS_S):
        # What a call brought goes a moment after its task.
        while (  # noqa: ASYNC110 - it is another process
            open_files(gateway.pid, spool)
            or open_descriptors(gateway.pid) > MAY_STAY_OPEN
            or any("/references/" in each for each in files_below(assets))
        ):
            await asyncio.sleep(0.1)

    # A picture that only looks like one fails at the upstream, at no charge.
    assert stats["submits"] >= stats["renders_completed"] > 0
    assert stats["cost_microusd"] == spent
    assert [] == files_below(spool)


async def test_any_form_is_answered_and_leaves_nothing(tmp_path: Path, upstream: str) -> None:
    """Broken forms, lengths that lie, drips and hang-ups: no 5xx, no hang, nothing left behind."""
    async with fuzzed_gateway(tmp_path, upstream, server=SERVER) as gateway:
        sender = Sender(gateway)
        await play(sender, settings(SHORT, max_examples=EXAMPLES))
        await assert_nothing_left(gateway, upstream, tmp_path)

    # It was tried: what is right was made, what is wrong was refused.
    assert sender.answers["200"], sender.answers
    assert len(sender.answers) > 5, sender.answers


@pytest.mark.fuzz
@pytest.mark.timeout(LONG_S + 300)
async def test_memory_does_not_grow_however_long_forms_are_tried(
    tmp_path: Path, upstream: str
) -> None:
    """Other forms each round; what the process keeps levels off."""
    async with fuzzed_gateway(tmp_path, upstream, server=SERVER) as gateway:
        sender = Sender(gateway)
        tried = settings(SHORT, derandomize=False, max_examples=EXAMPLES_OF_A_ROUND)
        memory = await for_minutes(gateway, lambda: play(sender, tried))
        await assert_nothing_left(gateway, upstream, tmp_path)

    log.info("answers: %s", dict(sender.answers.most_common()))
    assert_level(memory)

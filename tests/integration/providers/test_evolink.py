import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import orjson
import pytest

from gateway.background import SystemClock
from gateway.domain.task import FailureKind, SubmitOrder
from gateway.network.clients import build_poll_client, build_submit_client
from gateway.providers.evolink import EvolinkProvider, EvolinkSettings
from gateway.providers.interface import (
    Accepted,
    Balance,
    Failed,
    Finished,
    Missing,
    NoBalance,
    NoList,
    NotSent,
    PollFailed,
    PollOutcome,
    Rejected,
    Running,
    Unknown,
)
from tests.support.sockets import (
    Script,
    answer,
    answer_then_close,
    closed_port,
    in_turn,
    raw,
    raw_server,
    raw_then_reset,
    reset,
    silent,
)

FIXTURES = Path(__file__).parents[2] / "fixtures" / "upstream" / "evolink"
ID = "task-unified-1757156493-imcg5zqt"
LIVE_ID = "task-unified-1782914404-w4fcqq0x"
KEY = "run_0123456789abcdef0123456789abcdef"
ORDER = SubmitOrder(
    provider="evolink",
    account="evolink:abc",
    body={"model": "gpt-image-1.5", "prompt": "ein Füchslein", "size": "1024x1024"},
)
CREATED = (FIXTURES / "created.json").read_bytes()


class World:
    """A provider, and what it reported to the metrics."""

    def __init__(self, submit_client: httpx.AsyncClient, poll_client: httpx.AsyncClient) -> None:
        self._submit_client = submit_client
        self._poll_client = poll_client
        self.observed: list[tuple[str, str]] = []

    def at(self, base_url: str) -> EvolinkProvider:
        """Return the provider for an upstream at this URL."""
        return EvolinkProvider(
            EvolinkSettings(
                name="evolink",
                base_url=base_url,
                api_key="sk-evo-secret",
                submit_timeout_s=0.5,
                poll_timeout_s=0.5,
            ),
            submit_client=self._submit_client,
            poll_client=self._poll_client,
            clock=SystemClock(),
            observe=lambda call, status: self.observed.append((call, status)),
        )


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """Return a provider on real clients."""
    async with build_submit_client() as submit_client, build_poll_client() as poll_client:
        yield World(submit_client, poll_client)


async def test_a_submit_is_one_post_with_key_body_and_idempotency_key(world: World) -> None:
    """The order's body leaves as it was journaled, with both keys in the headers."""
    async with raw_server(answer(200, CREATED)) as server:
        outcome = await world.at(f"{server.url}/").submit(ORDER, idempotency_key=KEY)

    assert isinstance(outcome, Accepted)
    assert outcome.upstream_id == ID
    (seen,) = server.requests
    assert (seen.method, seen.target) == ("POST", "/v1/images/generations")
    assert seen.headers["authorization"] == "Bearer sk-evo-secret"
    assert seen.headers["idempotency-key"] == KEY
    assert seen.headers["content-type"] == "application/json"
    assert ORDER.body == orjson.loads(seen.body)
    assert world.observed == [("submit", "200")]


@pytest.mark.parametrize(
    ("script", "status"),
    [
        pytest.param(silent, "no_answer", id="silent"),
        pytest.param(reset, "no_answer", id="reset after the POST was read"),
        pytest.param(raw(b""), "no_answer", id="closed"),
        pytest.param(raw_then_reset(b"HTTP/1.1 200 OK\r\nCon"), "no_answer", id="amid headers"),
        pytest.param(
            raw(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n" + CREATED),
            "no_answer",
            id="half an answer",
        ),
        pytest.param(answer(502, b"<html>Bad Gateway</html>"), "502", id="HTML"),
        pytest.param(answer(403, b"<html>Forbidden</html>"), "403", id="HTML 403"),
        pytest.param(
            answer(503, b'{"error":{"code":"no_available_channel","message":"m"}}'),
            "503",
            id="an error with 503",
        ),
        pytest.param(answer(200, b"{}"), "200", id="no id"),
        pytest.param(answer(307, CREATED, {"Location": "/v1/elsewhere"}), "307", id="a redirect"),
    ],
)
async def test_an_unproven_submit_is_unknown_and_posted_once(
    world: World, script: Script, status: str
) -> None:
    """Without proof a submit is unknown, and the upstream saw exactly one POST."""
    async with raw_server(script) as server:
        outcome = await world.at(server.url).submit(ORDER, idempotency_key=KEY)

    assert isinstance(outcome, Unknown)
    assert [seen.target for seen in server.requests] == ["/v1/images/generations"]
    assert world.observed == [("submit", status)]


async def test_a_refused_connection_is_not_sent(world: World) -> None:
    """An upstream that is not there took nothing."""
    provider = world.at(f"http://127.0.0.1:{closed_port()}")

    outcome = await provider.submit(ORDER, idempotency_key=KEY)

    assert isinstance(outcome, NotSent)
    assert world.observed == [("submit", "not_sent")]


async def test_a_refusal_is_read_with_its_wait(world: World) -> None:
    """A readable 429 was not created and says how long to wait."""
    body = (FIXTURES / "refused_429_passthrough.json").read_bytes()
    async with raw_server(answer(429, body, {"Retry-After": "9"})) as server:
        outcome = await world.at(server.url).submit(ORDER, idempotency_key=KEY)

    assert outcome == Rejected(
        FailureKind.RATE_LIMITED,
        "HTTP 429 429: Resource exhausted. Please try again later. …",
        retry_after_s=9.0,
    )


async def test_submits_after_each_other_meet_no_stale_connection(world: World) -> None:
    """An upstream that closes every connection after its answer gets each order once."""
    async with raw_server(answer_then_close(CREATED)) as server:
        provider = world.at(server.url)
        outcomes = [await provider.submit(ORDER, idempotency_key=KEY) for _ in range(3)]

    assert [Accepted] * 3 == [type(outcome) for outcome in outcomes]
    assert len(server.requests) == 3


async def test_a_poll_asks_for_the_task_with_the_key(world: World) -> None:
    """A poll is a GET of the task and reads the live shape."""
    live = (FIXTURES / "completed_live.json").read_bytes()
    async with raw_server(answer(200, live)) as server:
        outcome = await world.at(server.url).poll(LIVE_ID)

    assert isinstance(outcome, Finished)
    (seen,) = server.requests
    assert (seen.method, seen.target) == ("GET", f"/v1/tasks/{LIVE_ID}")
    assert seen.headers["authorization"] == "Bearer sk-evo-secret"
    assert world.observed == [("poll", "200")]


@pytest.mark.parametrize(
    ("script", "outcome", "status"),
    [
        (answer(200, b'{"status":"processing","progress":40}'), Running(40), "200"),
        (
            answer(200, b'{"status":"cancelled"}'),
            Failed(FailureKind.CANCELLED, "request_cancelled"),
            "200",
        ),
        (answer(404, b'{"error":{"code":"task_not_found","message":"m"}}'), Missing(), "404"),
        (
            answer(429, b'{"error":{"code":"x","message":"m"}}', {"Retry-After": "3"}),
            PollFailed("HTTP 429 x: m", 3.0),
            "429",
        ),
        (answer(502, b"<html>"), PollFailed("HTTP 502"), "502"),
        (answer(302, b"", {"Location": "/login"}), PollFailed("HTTP 302"), "302"),
        (silent, PollFailed("no answer within 0.5 s"), "no_answer"),
        (raw(b"junk\r\n\r\n"), PollFailed("ClientResponseError"), "no_answer"),
    ],
)
async def test_a_poll_never_raises(
    world: World, script: Script, outcome: PollOutcome, status: str
) -> None:
    """Each way to answer a poll has its outcome and is counted."""
    async with raw_server(script) as server:
        assert outcome == await world.at(server.url).poll(ID)

    assert world.observed == [("poll", status)]


async def test_a_poll_without_a_connection_failed(world: World) -> None:
    """An upstream that is not there leaves the task as it was."""
    outcome = await world.at(f"http://127.0.0.1:{closed_port()}").poll(ID)

    assert isinstance(outcome, PollFailed)
    assert world.observed == [("poll", "not_sent")]


async def test_a_poll_survives_a_connection_that_went_stale(world: World) -> None:
    """A kept connection that the upstream closed costs no poll."""
    pending = b'{"status":"pending"}'
    async with raw_server(answer_then_close(pending)) as server:
        provider = world.at(server.url)
        outcomes = [await provider.poll(ID) for _ in range(3)]

    assert [Running()] * 3 == outcomes
    assert len(server.requests) == 3


async def test_a_poll_is_repeated_when_its_kept_connection_breaks(world: World) -> None:
    """A GET that died on a kept connection is asked again at once."""
    pending = answer(200, b'{"status":"pending"}')
    async with raw_server(in_turn(pending, reset, pending)) as server:
        provider = world.at(server.url)
        outcomes = [await provider.poll(ID) for _ in range(2)]

    assert [Running()] * 2 == outcomes
    assert len(server.requests) == 3


@pytest.mark.parametrize("upstream_id", ["../credits", "a/b", "", "a?b=1"])
async def test_an_id_that_is_no_path_segment_is_never_asked_for(
    world: World, upstream_id: str
) -> None:
    """An id that would change the URL does not reach the network."""
    async with raw_server(answer()) as server:
        outcome = await world.at(server.url).poll(upstream_id)

    assert isinstance(outcome, PollFailed)
    assert (server.connections, world.observed) == (0, [])


async def test_another_key_is_used_from_the_next_call_on(world: World) -> None:
    """For orders, polls and the balance; what is composed says so, without the key."""
    async with raw_server(answer(200, CREATED)) as server:
        provider = world.at(server.url)
        before = provider.account
        provider.use_key("sk-evo-next")
        await provider.submit(ORDER, idempotency_key=KEY)
        await provider.poll(ID)
        await provider.balance()

    assert {"Bearer sk-evo-next"} == {seen.headers["authorization"] for seen in server.requests}
    assert 3 == len(server.requests)
    assert before != provider.account
    assert provider.account.startswith("evolink:")
    assert "sk-evo" not in provider.account


async def test_observing_is_optional() -> None:
    """A provider without a metrics callback works."""
    async with (
        build_submit_client() as submit_client,
        build_poll_client() as poll_client,
        raw_server(answer(200, CREATED)) as server,
    ):
        provider = EvolinkProvider(
            EvolinkSettings(name="evolink", base_url=server.url, api_key="k"),
            submit_client=submit_client,
            poll_client=poll_client,
            clock=SystemClock(),
        )
        outcome = await provider.submit(ORDER, idempotency_key=KEY)

    assert isinstance(outcome, Accepted)


@pytest.mark.parametrize(
    ("script", "outcome", "status"),
    [
        (answer(200, b'{"data": {"user": {"remaining_credits": 7.5}}}'), Balance(7.5), "200"),
        (answer(401, b'{"error": {"code": 401}}'), None, "401"),
        (silent, None, "no_answer"),
    ],
)
async def test_the_balance_is_asked_with_the_key_and_counted(
    world: World, script: Script, outcome: Balance | None, status: str
) -> None:
    """One GET, bounded in time; an account that is not served is an outcome, not an error."""
    async with raw_server(script) as server:
        told = await world.at(server.url).balance()

    (seen,) = server.requests
    assert (seen.method, seen.target) == ("GET", "/v1/credits")
    assert seen.headers["authorization"] == "Bearer sk-evo-secret"
    assert (outcome == told) is (outcome is not None)
    assert isinstance(told, Balance if outcome else NoBalance)
    assert world.observed == [("credits", status)]


def pages(*firsts: int) -> Script:
    """Answer one page of fifty tasks after the other, the newest first, made a second apart."""
    scripts = iter(
        [
            answer(
                200,
                orjson.dumps(
                    {
                        "data": [
                            {"id": f"task-{number}", "created_at": number}
                            for number in range(first, first - 50, -1)
                        ]
                    }
                ),
            )
            for first in firsts
        ]
    )

    async def play(writer: asyncio.StreamWriter) -> None:
        await next(scripts)(writer)

    return play


async def test_the_list_is_read_until_it_is_old_enough(world: World) -> None:
    """Page by page; what moved to the next page meanwhile counts once."""
    async with raw_server(pages(130, 81, 31)) as server:
        listed = await world.at(server.url).list_since(60)

    assert not isinstance(listed, NoList)
    assert list(range(130, 59, -1)) == [task.created_s for task in listed]
    assert [f"/v1/tasks?type=image&page={number}&page_size=50" for number in (1, 2)] == [
        seen.target for seen in server.requests
    ]
    assert [("list", "200")] * 2 == world.observed


@pytest.mark.parametrize("script", [answer(500, b"down"), silent])
async def test_an_account_that_cannot_be_listed_says_so(world: World, script: Script) -> None:
    """Bounded in time, without raising."""
    async with raw_server(script) as server:
        assert isinstance(await world.at(server.url).list_since(0), NoList)

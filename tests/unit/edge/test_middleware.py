import asyncio
import json
from collections.abc import AsyncIterator, Callable

import pytest
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.testing import capture_logs

from gateway.domain.errors import BodyTooSlow, StillRunning
from gateway.edge.keepalive import AnswerCutError
from gateway.edge.middleware import (
    MIN_BYTES_PER_S,
    BodyLimitMiddleware,
    BodyTimeoutMiddleware,
    RecordMiddleware,
    SlashMiddleware,
)
from gateway.edge.record import RequestRecord
from gateway.telemetry.metrics import OTHER, Metrics
from tests.support.clock import FixedClock, LoopClock, in_virtual_time
from tests.support.factories import a_scope

REQUEST_ID = f"req_{'01' * 16}"


class Stage:
    """A record middleware around an application, with a clock and metrics to look at."""

    def __init__(self, app: ASGIApp) -> None:
        self.clock = FixedClock()
        self.metrics = Metrics(CollectorRegistry(), version="1")
        self.sent: list[Message] = []
        #: How long the client takes over every message.
        self.takes_s = 0.0
        self.app: ASGIApp = RecordMiddleware(
            app, clock=self.clock, metrics=self.metrics, random_bytes=lambda count: b"\x01" * count
        )

    async def serve(self, scope: Scope, *parts: bytes) -> None:
        """Send one request with its body in these parts."""
        inbox: list[Message] = [
            {"type": "http.request", "body": part, "more_body": True} for part in parts
        ]
        inbox.append({"type": "http.request", "body": b"", "more_body": False})

        async def receive() -> Message:
            self.clock.advance(self.takes_s)
            return inbox.pop(0) if inbox else {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            self.clock.advance(self.takes_s)
            self.sent.append(message)

        await self.app(scope, receive, send)

    @property
    def status(self) -> object:
        """The status of the answer."""
        return self.sent[0]["status"]

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the answer."""
        return {name.decode(): value.decode() for name, value in self.sent[0]["headers"]}

    @property
    def body(self) -> bytes:
        """The body of the answer."""
        return b"".join(message.get("body", b"") for message in self.sent[1:])

    def samples(self, name: str) -> dict[tuple[str, ...], float]:
        """Return the samples of one metric by their label values, in the metric's own order."""
        return {
            tuple(value for label, value in sample.labels.items() if label != "le"): sample.value
            for family in self.metrics.registry.collect()
            for sample in family.samples
            if sample.name == f"gateway_{name}"
        }


async def _ok(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


def _noting(note: Callable[[RequestRecord], None], status: int = 200) -> ASGIApp:
    """Return an application that learns something about its request and answers."""

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        note(scope["state"]["record"])
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    return app


async def _read_all(_scope: Scope, receive: Receive, send: Send) -> None:
    while (await receive())["more_body"]:
        pass
    await _ok(_scope, receive, send)


async def test_every_answer_has_an_id_and_a_time() -> None:
    """Each request gets a record, an id of OpenAI's form, and the milliseconds it took."""

    def learn(record: RequestRecord) -> None:
        stage.clock.advance(0.0416)
        record.task = "imgtask_1"

    stage = Stage(_noting(learn))
    await stage.serve(a_scope())

    assert stage.headers == {
        "x-request-id": REQUEST_ID,
        "openai-processing-ms": "42",
        "openai-version": "2020-10-01",
        "x-gateway-task-id": "imgtask_1",
    }


async def test_what_is_not_http_passes_by() -> None:
    """Lifespan messages get no record and no account."""
    seen = []

    async def app(scope: Scope, _receive: Receive, _send: Send) -> None:
        seen.append(scope)

    timed = BodyTimeoutMiddleware(SlashMiddleware(app), timeout_s=1, clock=FixedClock())
    stage = Stage(BodyLimitMiddleware(timed, limit_bytes=1))
    await stage.serve({"type": "lifespan"})

    assert [scope["type"] for scope in seen] == ["lifespan"]
    assert "state" not in seen[0]
    assert stage.samples("requests_total") == {}


async def test_state_of_the_server_is_kept() -> None:
    """What the lifespan put into the state stays beside the record."""
    stage = Stage(_ok)
    scope = a_scope() | {"state": {"mine": 1}}
    await stage.serve(scope)

    assert {"mine", "record"} == set(scope["state"])


async def test_streams_pass_through_unbuffered() -> None:
    """Each event is sent the moment it is made, through all middlewares and the framework."""
    order: list[str] = []

    async def events() -> AsyncIterator[bytes]:
        for number in range(3):
            order.append(f"made {number}")
            yield f"data: {number}\n\n".encode()

    async def stream(_request: object) -> StreamingResponse:
        return StreamingResponse(events(), media_type="text/event-stream")

    stage = Stage(
        Starlette(
            routes=[Route("/v1/events", stream, name="events")],
            middleware=[
                Middleware(BodyLimitMiddleware, limit_bytes=10),
                Middleware(SlashMiddleware),
            ],
        )
    )

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        order.append(f"sent {message.get('body', message.get('status'))!r}")

    await stage.app(a_scope("/v1/events"), receive, send)

    assert order == [
        "sent 200",
        *("made 0", r"sent b'data: 0\n\n'"),
        *("made 1", r"sent b'data: 1\n\n'"),
        *("made 2", r"sent b'data: 2\n\n'"),
        "sent b''",
    ]


async def test_a_crash_before_the_answer_becomes_one() -> None:
    """A defect of ours is OpenAI's envelope with status 500, and its cause stays in the log."""

    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise ZeroDivisionError("secret")

    stage = Stage(app)
    with capture_logs() as logs:
        await stage.serve(a_scope())

    assert (stage.status, stage.headers["x-request-id"]) == (500, REQUEST_ID)
    assert json.loads(stage.body)["error"]["type"] == "server_error"
    assert b"secret" not in stage.body
    assert stage.samples("requests_total") == {
        ("other", "other", "other", "500", "internal_error"): 1
    }
    assert [(entry["action"], entry["request_id"]) for entry in logs] == [
        ("request_broke", REQUEST_ID),
        ("request", REQUEST_ID),
    ]
    assert logs[0]["exc_info"] is True
    told = [logs[1][field] for field in ("code", "task", "provider")]
    assert told == ["internal_error", None, None]


async def test_a_crash_after_the_answer_began_breaks_it_off() -> None:
    """A second status cannot be sent: the server must cut the connection, and it is counted."""

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ZeroDivisionError

    stage = Stage(app)
    with capture_logs() as logs, pytest.raises(ZeroDivisionError):
        await stage.serve(a_scope())

    assert [message["type"] for message in stage.sent] == ["http.response.start"]
    assert [entry["action"] for entry in logs] == ["request_broke", "request"]
    assert sum(stage.samples("requests_total").values()) == 1


async def test_a_client_that_goes_away_is_counted() -> None:
    """A request that is cancelled before its answer has the status 0, and stays cancelled."""

    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise asyncio.CancelledError

    stage = Stage(app)
    with pytest.raises(asyncio.CancelledError):
        await stage.serve(a_scope())

    assert stage.samples("requests_total") == {("other", "other", "other", "0", ""): 1}


async def test_account_of_a_picture() -> None:
    """Count, duration, overhead and log line carry what the record has learned."""

    def learn(record: RequestRecord) -> None:
        stage.clock.advance(10)
        record.team, record.model = "design", "gpt-image-1.5"
        record.task, record.provider, record.cost_microusd = "imgtask_1", "evolink", 7834
        record.upstream_s, record.phases_s = 9.75, {"render": 9.75}

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        learn(scope["state"]["record"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        stage.clock.advance(0.5)
        await send({"type": "http.response.body", "body": b""})

    stage = Stage(app)
    scope = a_scope(method="POST") | {"route": Route("/x", _ok, name="images.generations")}
    with capture_logs() as logs:
        await stage.serve(scope)

    labels = ("images.generations", "design", "gpt-image-1.5")
    assert {(*labels, "200", ""): 1} == stage.samples("requests_total")
    assert {labels: 10.5} == stage.samples("request_duration_seconds_sum")
    assert stage.samples("overhead_seconds_sum") == {("images.generations",): 0.75}
    phases = {"receive": 0, "deliver": 0.5}
    assert {
        (phase, "evolink", "gpt-image-1.5"): seconds for phase, seconds in phases.items()
    } == stage.samples("phase_duration_seconds_sum")
    assert stage.samples("rejections_total") == {}
    assert logs == [
        {
            "event": "request",
            "log_level": "info",
            "action": "request",
            "request_id": REQUEST_ID,
            "method": "POST",
            "route": "images.generations",
            "status": 200,
            "team": "design",
            "model": "gpt-image-1.5",
            "code": None,
            "task": "imgtask_1",
            "provider": "evolink",
            "cost_microusd": 7834,
            "ms": 10_500.0,
            "phases_ms": {"render": 9750.0, "receive": 0.0, "deliver": 500.0},
        }
    ]


@pytest.mark.parametrize(
    ("joined", "retries", "saved"),
    [(True, {("design",): 1}, {("design",): 0.007834}), (False, {}, {})],
)
async def test_joined_retries_are_counted_with_what_they_saved(
    joined: bool, retries: dict[tuple[str, ...], float], saved: dict[tuple[str, ...], float]
) -> None:
    """A call that was attached to a task is counted, with the price of the picture it was not."""

    def learn(record: RequestRecord) -> None:
        record.team, record.task, record.joined = "design", "imgtask_1", joined
        record.saved_microusd = 7834 if joined else 0

    stage = Stage(_noting(learn))
    await stage.serve(a_scope())

    assert retries == stage.samples("joined_retries_total")
    assert saved == pytest.approx(stage.samples("saved_usd_total"))


async def test_what_the_client_takes_is_not_the_gateways_own() -> None:
    """Neither a slow upload nor a slow reader is overhead; each is a phase of its own."""

    async def slowly(receive: Receive) -> None:
        while (await receive())["more_body"]:
            stage.clock.advance(0.125)  # the gateway's own

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await slowly(receive)
        record = scope["state"]["record"]
        record.task, record.provider, record.cost_microusd = "imgtask_1", "evolink", 7834
        record.upstream_s = 5.0
        stage.clock.advance(5.0)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        stage.clock.advance(0.25)  # the gateway's own
        await send({"type": "http.response.body", "body": b""})
        # After the body there is only the client's leaving to hear of, and time is the gateway's.
        stage.takes_s = 0.75
        await receive()

    stage = Stage(app)
    stage.takes_s = 3.0
    await stage.serve(a_scope(), b"a", b"b")

    phases = {key[0]: value for key, value in stage.samples("phase_duration_seconds_sum").items()}
    assert {"receive": 9.0, "deliver": 10.0} == phases
    assert {("other",): 1.25} == stage.samples("overhead_seconds_sum")


async def test_overhead_is_never_negative() -> None:
    """Clocks of phases may overlap a little; the gateway's own part is then nothing."""

    def learn(record: RequestRecord) -> None:
        record.task, record.upstream_s = "imgtask_1", 5.0

    stage = Stage(_noting(learn))
    await stage.serve(a_scope())

    assert stage.samples("overhead_seconds_sum") == {("other",): 0}


@pytest.mark.parametrize(
    ("status", "code", "task", "rejections"),
    [
        (400, "invalid_type", "", {("design", "invalid_type"): 1}),
        # A task that failed was no refusal, an answer without a code has no reason to count,
        # and what is fine is fine.
        (502, "upstream_failed", "imgtask_1", {}),
        (400, "", "", {}),
        (200, "odd", "", {}),
    ],
)
async def test_rejections(
    status: int, code: str, task: str, rejections: dict[tuple[str, ...], float]
) -> None:
    """A call refused before anything was submitted is counted by its reason."""

    def learn(record: RequestRecord) -> None:
        record.team, record.error_code, record.task = "design", code, task

    stage = Stage(_noting(learn, status))
    await stage.serve(a_scope())

    assert rejections == stage.samples("rejections_total")


@pytest.mark.parametrize(
    ("upstream_s", "code", "counted"),
    [
        (9.0, "", 1),
        # Nobody here knows how long the upstream took for somebody else's task, or for one that
        # was not waited for to its end.
        (None, "", 0),
        (9.0, "timeout", 0),
    ],
)
async def test_overhead_is_told_where_the_upstream_time_is_known(
    upstream_s: float | None, code: str, counted: int
) -> None:
    """A joined retry that waits for a picture is no slow gateway, nor is a picture that is late."""

    def learn(record: RequestRecord) -> None:
        stage.clock.advance(10)
        record.task, record.upstream_s, record.error_code = "imgtask_1", upstream_s, code

    stage = Stage(_noting(learn))
    await stage.serve(a_scope())

    assert counted == sum(stage.samples("overhead_seconds_count").values())


async def test_an_answer_without_pictures_delivers_none() -> None:
    """Refusals and lists are in no phase."""
    stage = Stage(_ok)
    await stage.serve(a_scope())

    assert stage.samples("phase_duration_seconds_count") == {}


@pytest.mark.parametrize(
    ("route", "lines"), [("healthz", 0), ("readyz", 0), ("metrics", 0), ("models.list", 1)]
)
async def test_probes_are_counted_but_not_logged(route: str, lines: int) -> None:
    """Probes and scrapes leave no log lines."""
    stage = Stage(_ok)
    with capture_logs() as logs:
        await stage.serve(a_scope() | {"route": Route("/x", _ok, name=route)})

    assert (lines, 1) == (len(logs), sum(stage.samples("requests_total").values()))


@pytest.mark.parametrize(
    ("headers", "parts"),
    [
        ({"content_length": "11"}, []),
        ({"content_length": "11"}, [b"x" * 11]),
        ({"transfer_encoding": "chunked"}, [b"x" * 6, b"x" * 5]),
        ({"content_length": "1"}, [b"x" * 11]),
    ],
)
async def test_a_body_above_the_limit(headers: dict[str, str], parts: list[bytes]) -> None:
    """A body is refused by what it announces and by what it is, in OpenAI's envelope."""
    stage = Stage(BodyLimitMiddleware(_read_all, limit_bytes=10))
    await stage.serve(a_scope("/v1/x", method="POST", **headers), *parts)

    assert (stage.status, stage.headers["content-type"]) == (413, "application/json")
    assert str(len(stage.body)) == stage.headers["content-length"]
    assert stage.headers["x-request-id"] == REQUEST_ID
    assert json.loads(stage.body) == {
        "error": {
            "message": "The request body is larger than the 10 bytes accepted here.",
            "type": "invalid_request_error",
            "param": None,
            "code": "request_too_large",
        }
    }
    assert stage.samples("rejections_total") == {("other", "request_too_large"): 1}


async def test_an_announced_length_is_refused_although_nobody_reads() -> None:
    """An application that answers without reading does not get around the limit."""
    stage = Stage(BodyLimitMiddleware(_ok, limit_bytes=10))
    await stage.serve(a_scope(content_length="11"))

    assert (stage.status, len(stage.sent)) == (413, 2)


@pytest.mark.parametrize("parts", [[], [b"x" * 10], [b"x" * 4, b"x" * 6]])
async def test_a_body_within_the_limit(parts: list[bytes]) -> None:
    """A body of exactly the limit is served."""
    stage = Stage(BodyLimitMiddleware(_read_all, limit_bytes=10))
    await stage.serve(a_scope("/v1/x", method="POST"), *parts)

    assert (stage.status, stage.body) == (200, b"ok")


@pytest.mark.parametrize(
    ("status", "content_type"), [(413, b"application/json"), (400, b"text/plain")]
)
async def test_answers_of_the_application_are_not_replaced(
    status: int, content_type: bytes
) -> None:
    """Only the framework's own 413 is rewritten."""

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        headers = [(b"content-type", content_type)]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"mine"})

    stage = Stage(BodyLimitMiddleware(app, limit_bytes=10))
    await stage.serve(a_scope())

    assert (status, b"mine") == (stage.status, stage.body)


@pytest.mark.parametrize(
    ("path", "plain"),
    [
        ("//v1/images/generations", "/v1/images/generations"),
        ("/v1//images///generations", "/v1/images/generations"),
        ("//", "/"),
        ("/v1/models/", "/v1/models/"),
        ("/v1/models", "/v1/models"),
    ],
)
async def test_slashes_collapse(path: str, plain: str) -> None:
    """Repeated slashes become one, in the scope that the outer middleware reads the route from."""
    scope = a_scope(path)
    await Stage(SlashMiddleware(_ok)).serve(scope)

    assert plain == scope["path"]


async def _slowly(gap_s: float, *parts: bytes) -> tuple[int, float]:
    """Serve a body whose parts come this far apart; return its length and when it was read."""
    inbox = [*parts]
    length = 0
    clock = LoopClock()

    async def receive() -> Message:
        await asyncio.sleep(gap_s)
        part = inbox.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(inbox)}

    async def read(_scope: Scope, receive: Receive, _send: Send) -> None:
        nonlocal length
        more = True
        while more:
            message = await receive()
            length += len(message["body"])
            more = message["more_body"]

    await BodyTimeoutMiddleware(read, timeout_s=10, clock=clock)(a_scope(), receive, _no_send)
    return length, clock.monotonic_s()


async def _no_send(_message: Message) -> None:
    raise AssertionError("sent")


@pytest.mark.parametrize(
    ("gap_s", "parts"),
    [
        (9.9, [b"x"]),
        (3.3, [b"x", b"y", b"z"]),
        # Each piece is worth a second: what moves may take longer.
        (9.9, [b"x" * MIN_BYTES_PER_S * 10] * 5),
    ],
)
def test_a_body_that_comes_in_time(gap_s: float, parts: list[bytes]) -> None:
    """All of it within the timeout, and a second for each 16 KiB."""
    length, _ = in_virtual_time(_slowly(gap_s, *parts))

    assert sum(map(len, parts)) == length


@pytest.mark.parametrize(
    ("gap_s", "parts"),
    [
        (10.1, [b"x"]),
        # Dripping does not help: the whole of it has the time, not each piece.
        (3.4, [b"x", b"y", b"z"]),
        (9.9, [b"x" * MIN_BYTES_PER_S * 9] * 5),
    ],
)
def test_a_body_that_comes_too_late(gap_s: float, parts: list[bytes]) -> None:
    """The handler that reads it is told."""
    with pytest.raises(BodyTooSlow):
        in_virtual_time(_slowly(gap_s, *parts))


def test_a_client_may_stay_as_long_as_it_likes() -> None:
    """Once the body is read, waiting for the client to go away has no end."""

    async def serve() -> Message:
        inbox: list[Message] = [
            {"type": "http.request", "body": b"", "more_body": False},
            {"type": "http.disconnect"},
        ]
        heard: list[Message] = []

        async def receive() -> Message:
            await asyncio.sleep(9)
            return inbox.pop(0)

        async def app(_scope: Scope, receive: Receive, _send: Send) -> None:
            heard.extend([await receive(), await receive()])

        timed = BodyTimeoutMiddleware(app, timeout_s=10, clock=LoopClock())
        await timed(a_scope(), receive, _no_send)
        return heard[-1]

    assert "http.disconnect" == in_virtual_time(serve())["type"]


def test_time_begins_when_the_body_is_asked_for() -> None:
    """What a handler does before it reads is not the client's fault."""

    async def serve() -> None:
        async def receive() -> Message:
            await asyncio.sleep(9)
            return {"type": "http.request", "body": b"", "more_body": False}

        async def app(_scope: Scope, receive: Receive, _send: Send) -> None:
            await asyncio.sleep(60)
            await receive()

        timed = BodyTimeoutMiddleware(app, timeout_s=10, clock=LoopClock())
        await timed(a_scope(), receive, _no_send)

    in_virtual_time(serve())


async def test_an_answer_that_was_cut_off_is_accounted_for() -> None:
    """It ends without its end and without noise, and its error is the one that cut it."""

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise AnswerCutError(StillRunning())

    stage = Stage(app)
    with capture_logs() as lines:
        await stage.serve(a_scope())

    assert [200] == [message["status"] for message in stage.sent]
    assert {(OTHER, OTHER, OTHER, "200", "still_running"): 1.0} == stage.samples("requests_total")
    assert ["request"] == [line["event"] for line in lines]

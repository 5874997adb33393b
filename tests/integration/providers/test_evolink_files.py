from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator

import orjson
import pytest

from gateway.background import SystemClock
from gateway.domain.images import PictureFormat
from gateway.domain.task import FailureKind
from gateway.network.clients import build_submit_client
from gateway.providers.evolink_files import (
    KEPT_MS,
    EvolinkFiles,
    FileServiceSettings,
    read_upload,
)
from gateway.providers.interface import FileToUpload, Uploaded, UploadFailed, UploadOutcome
from gateway.providers.wire import Answer
from tests.support.sockets import Script, answer, closed_port, raw_server, reset, silent

CONTENT = b"\x89PNG" + os.urandom(300_000)
URL = "https://files.evolink.ai/a/b.png"
NOW_MS = 1_790_000_000_000


def taken(**data: object) -> bytes:
    """Return the body of an answer that took a file."""
    return orjson.dumps({"success": True, "code": 200, "msg": "ok", "data": data})


async def _chunks(content: bytes = CONTENT) -> AsyncIterator[bytes]:
    for start in range(0, len(content), 65_536):
        yield content[start : start + 65_536]


async def _upload(
    url: str, observed: list[str] | None = None, *, next_key: str = ""
) -> UploadOutcome:
    async with build_submit_client() as client:
        files = EvolinkFiles(
            FileServiceSettings(f"{url}/", "sk-evo-secret", upload_timeout_s=1.0),
            client=client,
            clock=SystemClock(),
            random_bytes=os.urandom,
            observe=(observed if observed is not None else []).append,
        )
        if next_key:
            files.use_key(next_key)
        return await files.upload(FileToUpload(PictureFormat.PNG, len(CONTENT), _chunks()))


async def test_a_file_is_one_form_with_a_name_nobody_had() -> None:
    """The bytes are whole, the length is told, and no two uploads share a name."""
    observed: list[str] = []
    async with raw_server(answer(200, taken(file_url=URL))) as server:
        outcomes = [await _upload(server.url, observed) for _ in range(2)]

    assert [URL, URL] == [each.url for each in outcomes if isinstance(each, Uploaded)]
    names = []
    for seen in server.requests:
        assert ("POST", "/api/v1/files/upload/stream") == (seen.method, seen.target)
        assert "Bearer sk-evo-secret" == seen.headers["authorization"]
        assert str(len(seen.body)) == seen.headers["content-length"]
        assert CONTENT in seen.body
        found = re.search(rb'name="file_name"\r\n\r\n([0-9a-f]{32}\.png)\r\n', seen.body)
        assert found is not None
        names.append(found[1].decode())
        assert names[-1] == seen.headers["idempotency-key"]
    assert 2 == len(set(names))
    assert ["200", "200"] == observed


async def test_files_go_by_the_key_of_the_moment() -> None:
    """The next one by the next key."""
    async with raw_server(answer(200, taken(file_url=URL))) as server:
        await _upload(server.url, next_key="sk-evo-next")

    [seen] = server.requests
    assert "Bearer sk-evo-next" == seen.headers["authorization"]


@pytest.mark.parametrize(
    ("script", "status"), [(silent, "no_answer"), (reset, "no_answer"), (None, "not_sent")]
)
async def test_an_upload_without_an_answer(script: Script | None, status: str) -> None:
    """It failed, whatever became of it: it costs nothing, and may be done again."""
    observed: list[str] = []
    if script is None:
        outcome = await _upload(f"http://127.0.0.1:{closed_port()}", observed)
    else:
        async with raw_server(script) as server:
            outcome = await _upload(server.url, observed)

    assert isinstance(outcome, UploadFailed)
    assert FailureKind.UPSTREAM_DOWN is outcome.kind
    assert [status] == observed


@pytest.mark.parametrize("status", [200, 400, 500])
@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (40001, FailureKind.BAD_REFERENCE),
        (40002, FailureKind.BAD_REFERENCE),
        (40003, FailureKind.INSUFFICIENT_FUNDS),
        (401, FailureKind.AUTH),
        (403, FailureKind.AUTH),
        (50001, FailureKind.UPSTREAM_DOWN),
        (None, FailureKind.UPSTREAM_DOWN),
    ],
)
def test_both_forms_of_a_refusal(status: int, code: int | None, kind: FailureKind) -> None:
    """The code counts, with an HTTP error or with a 200 that says it failed."""
    body = {"success": False, "code": code, "msg": "https://secret.example"}
    outcome = read_upload(Answer(status, body), now_ms=NOW_MS)

    assert isinstance(outcome, UploadFailed)
    assert kind is outcome.kind
    assert "secret" not in outcome.reason


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, FailureKind.AUTH),
        (413, FailureKind.BAD_REFERENCE),
        (503, FailureKind.UPSTREAM_DOWN),
        (200, FailureKind.UPSTREAM_DOWN),
    ],
)
@pytest.mark.parametrize("body", [None, [], {"message": "busy"}])
def test_an_answer_that_says_nothing(status: int, kind: FailureKind, body: object) -> None:
    """Then the status is all there is."""
    outcome = read_upload(Answer(status, body), now_ms=NOW_MS)

    assert isinstance(outcome, UploadFailed)
    assert kind is outcome.kind


@pytest.mark.parametrize(
    ("data", "url", "left_ms"),
    [
        ({"file_url": URL}, URL, KEPT_MS),
        ({"download_url": URL}, URL, KEPT_MS),
        ({"file_url": "javascript:1", "download_url": URL}, URL, KEPT_MS),
        ({"file_url": URL, "expires_at": "2026-09-21T22:13:20+08:00"}, URL, 20 * 1000),
        ({"file_url": URL, "expires_at": "2036-09-21T14:13:20Z"}, URL, KEPT_MS),
        ({"file_url": URL, "expires_at": "soon"}, URL, KEPT_MS),
        ({"file_url": 5}, "", 0),
        ({}, "", 0),
    ],
)
def test_where_a_file_is_and_for_how_long(data: dict[str, object], url: str, left_ms: int) -> None:
    """The link of the answer, until it says, and never longer than the documents do."""
    outcome = read_upload(Answer(200, orjson.loads(taken(**data))), now_ms=NOW_MS)

    if url:
        assert isinstance(outcome, Uploaded)
        told_ms = outcome.expires_ms - NOW_MS
        assert (url, True) == (outcome.url, told_ms <= KEPT_MS)
        if left_ms == KEPT_MS:
            assert KEPT_MS == told_ms
    else:
        assert isinstance(outcome, UploadFailed)


def test_settings_keep_the_key_to_themselves() -> None:
    """It is in no text of them."""
    assert "sk-evo" not in repr(FileServiceSettings("https://f.example", "sk-evo-secret"))

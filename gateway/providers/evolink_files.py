"""EvoLink's file service, where references go up and get a link (protocols/evolink.md §7)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from http import HTTPStatus

import httpx

from gateway.domain.clock import Clock
from gateway.domain.images import PictureFormat
from gateway.domain.task import FailureKind
from gateway.providers.interface import FileToUpload, Uploaded, UploadFailed, UploadOutcome
from gateway.providers.wire import Answer, NeverSent, NoAnswer, Reply, exchange

PATH = "/api/v1/files/upload/stream"

#: How long a file stays there when the answer does not say.
KEPT_MS = 72 * 3_600_000
MAX_URL_CHARS = 2_048

_ENDINGS = {PictureFormat.PNG: "png", PictureFormat.JPEG: "jpg", PictureFormat.WEBP: "webp"}

#: What is wrong with the file itself: too large, of a type that is not taken.
_BAD_FILE = frozenset({40001, 40002})
#: There is no room for one more file.
_QUOTA = 40003


@dataclass(frozen=True, slots=True)
class FileServiceSettings:
    """Where files go, and as whom; a key is never in what this prints."""

    files_url: str
    api_key: str = field(repr=False)
    upload_timeout_s: float = 120.0


class EvolinkFiles:
    """Uploads one file at a time, each in one attempt. The client is the caller's."""

    def __init__(
        self,
        settings: FileServiceSettings,
        *,
        client: httpx.AsyncClient,
        clock: Clock,
        random_bytes: Callable[[int], bytes],
        observe: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._settings = settings
        self._client = client
        self._clock = clock
        self._random_bytes = random_bytes
        self._observe = observe
        self._url = settings.files_url.rstrip("/") + PATH

    def use_key(self, api_key: str) -> None:
        """Upload by this key from now on."""
        self._settings = replace(self._settings, api_key=api_key)

    async def upload(self, file: FileToUpload) -> UploadOutcome:
        """Bring one file up, under a name that nobody had before: others would be overwritten."""
        name = f"{self._random_bytes(16).hex()}.{_ENDINGS[file.format]}"
        boundary = self._random_bytes(16).hex()
        head, tail = _form_around(name, file.format.media_type, boundary)
        request = self._client.build_request(
            "POST",
            self._url,
            content=_joined(head, file.chunks, tail),
            headers={
                "authorization": f"Bearer {self._settings.api_key}",
                "content-type": f"multipart/form-data; boundary={boundary}",
                "content-length": str(len(head) + file.size_bytes + len(tail)),
                "idempotency-key": name,
            },
        )
        reply = await exchange(
            self._client, request, total_s=self._settings.upload_timeout_s, clock=self._clock
        )
        self._observe(_told(reply))
        match reply:
            case Answer():
                return read_upload(reply, now_ms=self._clock.now_ms())
            case NeverSent(reason) | NoAnswer(reason):
                return UploadFailed(FailureKind.UPSTREAM_DOWN, reason)


def read_upload(answer: Answer, *, now_ms: int) -> UploadOutcome:
    """Return what an answer means; failures come with an HTTP error or with 200."""
    body = answer.body if isinstance(answer.body, dict) else {}
    data = body.get("data")
    if answer.status == HTTPStatus.OK and body.get("success") is True and isinstance(data, dict):
        for name in ("file_url", "download_url"):
            url = data.get(name)
            if isinstance(url, str) and _is_link(url):
                return Uploaded(url, _expires_ms(data.get("expires_at"), now_ms))
        return UploadFailed(FailureKind.UPSTREAM_DOWN, "the answer names no link")
    code = body.get("code")
    detail = f"HTTP {answer.status}, code {code if isinstance(code, int) else None}"
    if code in _BAD_FILE or answer.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return UploadFailed(FailureKind.BAD_REFERENCE, detail)
    if HTTPStatus.UNAUTHORIZED in (code, answer.status) or HTTPStatus.FORBIDDEN in (
        code,
        answer.status,
    ):
        return UploadFailed(FailureKind.AUTH, detail)
    if code == _QUOTA:
        return UploadFailed(FailureKind.INSUFFICIENT_FUNDS, f"{detail}: the file quota is used up")
    return UploadFailed(FailureKind.UPSTREAM_DOWN, detail)


def _is_link(url: str) -> bool:
    if len(url) > MAX_URL_CHARS:
        return False
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        return False
    return parsed.scheme in ("https", "http") and bool(parsed.host)


def _expires_ms(told: object, now_ms: int) -> int:
    """Return when a file goes away, never later than the documents say."""
    until_ms = now_ms + KEPT_MS
    if isinstance(told, str):
        try:
            moment = datetime.fromisoformat(told)
        except ValueError:
            return until_ms
        if moment.tzinfo is not None:
            return min(until_ms, int(moment.timestamp() * 1000))
    return until_ms


def _form_around(name: str, media_type: str, boundary: str) -> tuple[bytes, bytes]:
    """Return a form's bytes before and after the file."""
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file_name"\r\n\r\n{name}\r\n'
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
        f"Content-Type: {media_type}\r\n\r\n"
    )
    return head.encode(), f"\r\n--{boundary}--\r\n".encode()


async def _joined(head: bytes, file: AsyncIterator[bytes], tail: bytes) -> AsyncIterator[bytes]:
    yield head
    async for chunk in file:
        yield chunk
    yield tail


def _told(reply: Reply) -> str:
    match reply:
        case NeverSent():
            return "not_sent"
        case NoAnswer():
            return "no_answer"
        case Answer(status):
            return str(status)

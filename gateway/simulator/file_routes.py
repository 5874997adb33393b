"""The HTTP surface of the file service (protocols/evolink.md §7)."""

import base64
import binascii
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.simulator.files import Files, StoredUpload
from gateway.simulator.multipart import read_form
from gateway.simulator.query_faults import (
    FILE_FAULTS,
    FileProblem,
    FileRefusedError,
    invalid_file,
)
from gateway.simulator.references import (
    TooLargeError,
    UnreachableError,
    download,
)
from gateway.simulator.replies import AnyProblem, distorted, instead
from gateway.simulator.requests import authorized, base_url, json_response
from gateway.simulator.rules import Stage
from gateway.simulator.settings import FilesErrors, SimulatorSettings
from gateway.simulator.world import World

_BEIJING = timezone(timedelta(hours=8))
_PAGE_MOST = 100

Work = Callable[[Request], Awaitable[Response]]


class FileRoutes:
    """Answer the routes of one account's file service."""

    def __init__(
        self, settings: SimulatorSettings, files: Files, world: World, stage: Stage
    ) -> None:
        self._settings = settings
        self._files = files
        self._world = world
        self._stage = stage

    def routes(self) -> list[Route]:
        """Return the documented routes."""
        files = "/api/v1/files"
        return [
            _route(f"{files}/upload/base64", self.upload_base64, "POST"),
            _route(f"{files}/upload/stream", self.upload_stream, "POST"),
            _route(f"{files}/upload/url", self.upload_url, "POST"),
            _route(f"{files}/list", self.page, "GET"),
            _route(f"{files}/quota", self.quota, "GET"),
            _route(f"{files}/download/{{file_id}}", self.serve, "GET"),
            _route(f"{files}/{{file_id}}", self.delete, "DELETE"),
        ]

    async def upload_base64(self, request: Request) -> Response:
        """Take a file as base64 or a data URL in JSON."""
        return await self._answered("upload", request, self._take_base64)

    async def upload_stream(self, request: Request) -> Response:
        """Take a file as the part ``file`` of a form."""
        return await self._answered("upload", request, self._take_form)

    async def upload_url(self, request: Request) -> Response:
        """Fetch a file from a link, and take it."""
        return await self._answered("upload", request, self._take_link)

    async def page(self, request: Request) -> Response:
        """Show one page of the files, the newest first."""
        return await self._answered("files", request, self._page)

    async def quota(self, request: Request) -> Response:
        """Tell how many files there may be."""
        return await self._answered("files", request, self._quota)

    async def delete(self, request: Request) -> Response:
        """Forget a file."""
        return await self._answered("files", request, self._delete)

    async def serve(self, request: Request) -> Response:
        """Serve a file by its id; whoever knows it may read it."""
        upload = self._files.by_id(request.path_params["file_id"])
        return self._refused(FILE_FAULTS["not_found"]) if upload is None else served(upload)

    async def _answered(self, route: str, request: Request, work: Work) -> Response:
        """Play the rules of a route around the proper answer."""
        try:
            authorized(request)
            reply = self._stage.next(route).other
            if reply is not None and reply.replaces:
                return instead(reply, self._refused)
            proper = await work(request)
        except PermissionError:
            return self._refused(FILE_FAULTS["unauthorized"])
        except FileRefusedError as refusal:
            return self._refused(refusal.problem)
        return proper if reply is None else await distorted(reply, proper, self._refused)

    def _refused(self, problem: AnyProblem) -> Response:
        code = problem.code if isinstance(problem, FileProblem) else problem.status
        body = {"code": code, "msg": problem.message, "success": False}
        as_ok = self._settings.files_errors is FilesErrors.OK
        return json_response(body, 200 if as_ok else problem.status)

    async def _take_base64(self, request: Request) -> Response:
        body = await _json_object(request)
        payload = _text(body, "base64_data")
        if payload.startswith("data:"):
            payload = payload.partition(",")[2]
        if not payload:
            raise invalid_file("base64_data is required")
        try:
            content = base64.b64decode(payload, validate=True)
        except binascii.Error:
            raise invalid_file("base64_data is not base64") from None
        return self._took(
            request, content, "", _text(body, "file_name"), _text(body, "upload_path")
        )

    async def _take_form(self, request: Request) -> Response:
        parts = read_form(request.headers.get("content-type", ""), await request.body())
        fields = {part.name: part.content.decode("utf-8", "replace") for part in parts}
        given = [part for part in parts if part.name == "file"]
        if len(given) != 1:
            raise invalid_file("file is required, once")
        return self._took(
            request,
            given[0].content,
            given[0].file_name or "",
            fields.get("file_name") or fields.get("fileName", ""),
            fields.get("upload_path") or fields.get("uploadPath", ""),
        )

    async def _take_link(self, request: Request) -> Response:
        body = await _json_object(request)
        link = _text(body, "file_url")
        if not link.casefold().startswith(("http://", "https://")):
            raise invalid_file("file_url must be a link")
        try:
            content = await download(link, self._settings.files_max_bytes)
        except UnreachableError:
            raise FileRefusedError(FILE_FAULTS["download_failed"]) from None
        except TooLargeError:
            raise FileRefusedError(FILE_FAULTS["too_large"]) from None
        original = unquote(urlsplit(link).path).rpartition("/")[2]
        return self._took(
            request, content, original, _text(body, "file_name"), _text(body, "upload_path")
        )

    def _took(
        self, request: Request, content: bytes, original: str, name: str, folder: str
    ) -> Response:
        upload = self._files.add(content, original_name=original, file_name=name, folder=folder)
        self._world.counts.files += 1
        return _success(
            self._upload_body(upload, base_url(request, self._settings)),
            "File uploaded successfully",
        )

    def _upload_body(self, upload: StoredUpload, base: str) -> dict[str, Any]:
        uploaded_s = upload.uploaded_unix_s
        return {
            "download_url": f"{base}/api/v1/files/download/{upload.file_id}",
            "expires_at": _local(uploaded_s + self._settings.files_keep_s),
            "file_id": upload.file_id,
            "file_name": upload.file_name,
            "file_size": len(upload.content),
            "file_url": base + quote(upload.path),
            "mime_type": upload.mime_type,
            "original_name": upload.original_name,
            "upload_path": upload.upload_path,
            "upload_time": _local(uploaded_s),
        }

    async def _page(self, request: Request) -> Response:
        page = _whole(request, "page", 1)
        size = min(_whole(request, "pageSize", 20), _PAGE_MOST)
        files = self._files.newest()
        rows = [
            {
                "file_id": upload.file_id,
                "file_name": upload.file_name,
                "file_size": len(upload.content),
                "upload_time": _local(upload.uploaded_unix_s),
            }
            for upload in files[(page - 1) * size : page * size]
        ]
        return _success({"files": rows, "total": len(files)}, "success")

    async def _quota(self, _: Request) -> Response:
        used, most = len(self._files.newest()), self._settings.files_quota
        return _success(
            {
                "is_custom": False,
                "max_files": most,
                "quota_reason": "",
                "remain_files": most - used,
                "used_files": used,
                "user_group": "default",
            },
            "success",
        )

    async def _delete(self, request: Request) -> Response:
        if not self._files.remove(request.path_params["file_id"]):
            raise FileRefusedError(FILE_FAULTS["not_found"])
        return _success(None, "File deleted successfully")


def served(upload: StoredUpload) -> Response:
    """Return a file as the file host serves it, without any authorization."""
    return Response(upload.content, media_type=upload.mime_type)


def _route(path: str, work: Work, method: str) -> Route:
    return Route(path, work, methods=[method])


def _success(body: Any, message: str) -> Response:
    return json_response({"code": 200, "data": body, "msg": message, "success": True})


def _local(unix_s: float) -> str:
    """Write a time as the documents do: ISO 8601, eight hours east."""
    return datetime.fromtimestamp(int(unix_s), UTC).astimezone(_BEIJING).isoformat()


async def _json_object(request: Request) -> dict[str, Any]:
    try:
        body = orjson.loads(await request.body())
    except orjson.JSONDecodeError:
        raise invalid_file("the body is not JSON") from None
    if not isinstance(body, dict):
        raise invalid_file("the body is not a JSON object")
    return body


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise invalid_file(f"{name} must be a string")
    return value


def _whole(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, str(default))
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise invalid_file(f"{name} must be a number from 1")
    return int(text)

"""The books of the file service: what was uploaded, under which name, until when (§7)."""

import itertools
import string
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from gateway.simulator.clock import Clock
from gateway.simulator.media import media_type
from gateway.simulator.query_faults import FILE_FAULTS, FileRefusedError, invalid_file
from gateway.simulator.settings import SimulatorSettings

_PATH_MAX, _NAME_MAX = 256, 255
_ID_ALPHABET = string.ascii_lowercase + string.digits
_EXTENSIONS = {
    "image/png": "png",
    "image/jpeg": "jpg",
    "image/gif": "gif",
    "image/webp": "webp",
}


@dataclass(frozen=True, slots=True)
class StoredUpload:
    """Hold one uploaded file."""

    file_id: str
    file_name: str
    original_name: str
    upload_path: str
    mime_type: str
    content: bytes
    uploaded_unix_s: float
    expires_s: float
    """On the monotonic clock."""

    @property
    def path(self) -> str:
        """Return the URL path of the file."""
        folder = f"/{self.upload_path}" if self.upload_path else ""
        return f"{folder}/{self.file_name}"


class Files:
    """Hold the files of one account in memory, each until it expires."""

    def __init__(self, settings: SimulatorSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self.reset()

    def reset(self) -> None:
        """Forget every file."""
        self._random = Random(self._settings.seed)  # noqa: S311 - repeats on purpose
        self._names = itertools.count(1)
        # In the order of upload, which is that of expiry: the oldest is always in front.
        self._by_id: dict[str, StoredUpload] = {}
        self._by_path: dict[str, str] = {}

    def add(
        self, content: bytes, *, original_name: str, file_name: str, folder: str
    ) -> StoredUpload:
        """Store a file, over one of the same name; raise ``FileRefusedError``.

        An empty ``file_name`` takes the original one, and one of our making without either.
        """
        if len(content) > self._settings.files_max_bytes:
            raise FileRefusedError(FILE_FAULTS["too_large"])
        mime_type = media_type(content)
        if not mime_type:
            raise FileRefusedError(FILE_FAULTS["type_not_allowed"])
        made_up = f"file_{next(self._names)}.{_EXTENSIONS[mime_type]}"
        upload = StoredUpload(
            file_id="file_" + "".join(self._random.choices(_ID_ALPHABET, k=12)),
            file_name=_checked_name(file_name or original_name or made_up),
            original_name=original_name or file_name or made_up,
            upload_path=_checked_folder(folder),
            mime_type=mime_type,
            content=content,
            uploaded_unix_s=self._clock.wall_s(),
            expires_s=self._clock.monotonic_s() + self._settings.files_keep_s,
        )
        self._expire()
        self.remove(self._by_path.get(upload.path, ""))
        if len(self._by_id) >= self._settings.files_quota:
            raise FileRefusedError(FILE_FAULTS["quota_exceeded"])
        self._by_id[upload.file_id] = upload
        self._by_path[upload.path] = upload.file_id
        return upload

    def remove(self, file_id: str) -> bool:
        """Forget a file; tell whether there was one."""
        self._expire()
        upload = self._by_id.pop(file_id, None)
        if upload is None:
            return False
        del self._by_path[upload.path]
        return True

    def by_id(self, file_id: str) -> StoredUpload | None:
        """Return a file by its id."""
        self._expire()
        return self._by_id.get(file_id)

    def by_path(self, path: str) -> StoredUpload | None:
        """Return a file by the path of its link."""
        self._expire()
        return self._by_id.get(self._by_path.get(path, ""))

    def newest(self) -> Sequence[StoredUpload]:
        """Return every file, the newest first."""
        self._expire()
        return tuple(reversed(self._by_id.values()))

    def _expire(self) -> None:
        now_s = self._clock.monotonic_s()
        while self._by_id:
            oldest = next(iter(self._by_id.values()))
            if oldest.expires_s > now_s:
                return
            del self._by_id[oldest.file_id], self._by_path[oldest.path]


def _checked_folder(folder: str) -> str:
    """Return a relative folder without empty parts; raise ``FileRefusedError`` (400)."""
    parts = folder.strip("/").split("/") if folder.strip("/") else []
    odd = any(part in {"", ".", ".."} for part in parts) or "\\" in folder
    if odd or folder.startswith("/") or len(folder) > _PATH_MAX:
        raise invalid_file("upload_path must be a relative path of at most 256 characters")
    return "/".join(parts)


def _checked_name(name: str) -> str:
    if "/" in name or "\\" in name or name in {".", ".."} or len(name) > _NAME_MAX:
        raise invalid_file("file_name must be at most 255 characters without separators")
    return name

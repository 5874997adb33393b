"""Where pictures are kept, and how that place is reached through obstore."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from obstore.exceptions import BaseError
from obstore.store import LocalStore, MemoryStore, ObjectStore, from_url

from gateway.assets.interface import AssetUnavailableError

#: A store far away: one request may take so long, and is repeated so long when it failed. Whoever
#: wanted to store a picture tries again by itself.
REQUEST_S, RETRIES, RETRY_S = 20, 2, 20


@dataclass(frozen=True, slots=True)
class AssetPlace:
    """A store of pictures.

    `url` is ``file:<absolute folder>``, ``memory:``, ``s3://bucket/prefix``, ``gs://bucket/prefix``
    or ``az://container/prefix``. Without keys those far away use what the environment of the
    process and the machine's own role give, as their vendors' tools do. `access_key` is S3's access
    key id or Azure's account, `secret_key` what belongs to it (a service account as JSON at GCS).
    `endpoint` is a server other than the vendor's.
    """

    url: str
    endpoint: str = ""
    region: str = ""
    access_key: str = field(default="", repr=False)
    secret_key: str = field(default="", repr=False)

    @property
    def folder(self) -> Path | None:
        """The folder on this machine; None for any other place."""
        scheme, _, path = self.url.partition(":")
        return Path(path) if scheme == "file" else None


def open_place(place: AssetPlace) -> ObjectStore:
    """Return the store at a place, whose folder is made for its owner only.

    Nothing far away is asked yet. Raises ValueError for another URL, AssetUnavailableError when the
    place cannot be opened as it is described.
    """
    if place.url == "memory:":
        return MemoryStore()
    if place.folder is not None:
        if not place.folder.is_absolute():
            raise ValueError("expected file:<absolute folder>")
        try:
            place.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return LocalStore(prefix=place.folder, automatic_cleanup=True)
        except (BaseError, OSError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise AssetUnavailableError(
                f"{place.folder} cannot be used: {reason}. Make it writable, or choose another"
                " assets.url."
            ) from error
    scheme = place.url.partition(":")[0]
    if scheme not in _KEYS:
        raise ValueError("expected file:, memory:, s3://, gs:// or az://")
    try:
        return from_url(
            place.url,
            config=_config(scheme, place),
            client_options={
                "allow_http": place.endpoint.startswith("http://"),
                "timeout": timedelta(seconds=REQUEST_S),
            },
            retry_config={"max_retries": RETRIES, "retry_timeout": timedelta(seconds=RETRY_S)},
        )
    except (BaseError, ValueError, OSError) as error:
        # The first line: what follows is an inside view, and may show what it was given.
        reason = str(error).partition("\n")[0][:200]
        raise AssetUnavailableError(f"cannot open {scheme}: {reason}") from None


#: What obstore calls the two halves of a key.
_KEYS = {
    "s3": ("access_key_id", "secret_access_key"),
    "gs": ("", "service_account_key"),
    "az": ("account_name", "account_key"),
}


def _config(scheme: str, place: AssetPlace) -> Any:
    access, secret = _KEYS[scheme]
    given = {
        access: place.access_key,
        secret: place.secret_key,
        "endpoint": place.endpoint,
        "region": place.region,
    }
    return {name: value for name, value in given.items() if name and value}

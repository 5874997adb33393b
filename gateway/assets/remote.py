"""Fetches a picture that a client names by its address: only from where a guard lets it.

The address is the client's and the network is ours, so that every hop is checked as callbacks are
(`network/guarded.py`): resolved once, and connected to the very addresses that were checked.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from http import HTTPStatus

import httpx

from gateway.assets.spool import Spool, SpooledFile
from gateway.network.guard import DestinationRefusedError, Guard
from gateway.network.guarded import RefusedError
from gateway.network.transport import NeverSentError, NoAnswerError, let_go

#: Redirects that are followed; each is checked like the first address.
MAX_REDIRECTS = 3


class CannotFetchError(Exception):
    """There is no picture at that address for us; the message may be told to the client."""


def too_large(limit_bytes: int) -> CannotFetchError:
    """Return what is told of a picture that is larger than it may be."""
    return CannotFetchError(f"it is larger than {limit_bytes // 1_000_000} MB")


@dataclass(frozen=True, slots=True)
class RemoteLimits:
    """How large a picture may be and how long it may take, redirects included."""

    max_bytes: int
    total_timeout_s: float


class RemotePictures:
    """Fetches pictures. The client must be guarded, by the same guard; it is the caller's."""

    def __init__(self, client: httpx.AsyncClient, guard: Guard, limits: RemoteLimits) -> None:
        self._client = client
        self._guard = guard
        self._limits = limits

    def check(self, url: str) -> None:
        """Raise CannotFetchError for an address that is refused as it is written."""
        try:
            self._guard.check_url(url)
        except DestinationRefusedError as refusal:
            raise CannotFetchError(str(refusal)) from None

    async def fetch(self, url: str, spool: Spool) -> SpooledFile:
        """Return what is behind an address. Raises CannotFetchError, AssetUnavailableError."""
        self.check(url)
        try:
            async with asyncio.timeout(self._limits.total_timeout_s):
                return await self._copy(url, spool)
        except TimeoutError:
            raise CannotFetchError("it did not come in time") from None
        except RefusedError as refusal:
            raise CannotFetchError(str(refusal)) from None
        except (NeverSentError, NoAnswerError):
            raise CannotFetchError("its server did not answer") from None
        except httpx.TooManyRedirects:
            raise CannotFetchError("it redirects too often") from None
        except (httpx.HTTPError, httpx.InvalidURL):
            raise CannotFetchError("its server's answer could not be read") from None

    async def _copy(self, url: str, spool: Spool) -> SpooledFile:
        request = self._client.build_request("GET", url, headers={"accept": "image/*"})
        response = await self._client.send(request, stream=True)
        try:
            if response.status_code != HTTPStatus.OK:
                raise CannotFetchError(f"its server answered {response.status_code}")
            file = spool.open()
            # Raw: a compressed body is not what was asked for and is no picture either.
            async for chunk in response.aiter_raw():
                if file.size_bytes + len(chunk) > self._limits.max_bytes:
                    raise too_large(self._limits.max_bytes)
                await file.write(chunk)
            await file.finish()
            return file
        finally:
            await let_go(response)

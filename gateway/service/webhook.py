"""A webhook that takes texts, as Slack's incoming webhooks do."""

from __future__ import annotations

import asyncio
from typing import Protocol

import httpx
from pydantic import SecretStr

#: Seconds for the whole call, name lookup and answer included.
WITHIN_S = 10.0

#: What goes wrong on the way. Only the class is ever told: messages may hold the URL.
_FAILURES = (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError)


class NotDeliveredError(Exception):
    """The other side did not take the text; the message tells why, without the URL."""


class Messenger(Protocol):
    """Brings a text to people."""

    async def post(self, text: str) -> None:
        """Deliver it. Raises NotDeliveredError; it may have been delivered then."""
        ...


class Webhook:
    """Implements `Messenger`: POST {"text": …}; any 2xx is a delivery. The URL is a secret."""

    def __init__(self, client: httpx.AsyncClient, url: SecretStr) -> None:
        self._client = client
        self._url = url

    async def post(self, text: str) -> None:
        """Post a text; the answer's body is not read."""
        url = self._url.get_secret_value()
        try:
            async with (
                asyncio.timeout(WITHIN_S),
                self._client.stream("POST", url, json={"text": text}) as response,
            ):
                delivered, status = response.is_success, response.status_code
        except _FAILURES as error:
            raise NotDeliveredError(type(error).__name__) from None
        if not delivered:
            raise NotDeliveredError(f"HTTP {status}")

"""Words that only this gateway can have written: short texts with a signature, for URLs.

A token is ``<payload>.<signature>``, both base64url without padding; the signature is the first
16 bytes of an HMAC-SHA256 over what the token is for and its payload. Nothing in it is secret.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

_SIGNATURE_BYTES = 16


class Purpose(StrEnum):
    """What a token is good for; one for another purpose is no token."""

    CALLBACK = "callback"
    ASSET = "asset"


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs with the first secret, and believes every one of them (an old one while it rotates)."""

    secrets: Sequence[bytes]

    def token(self, purpose: Purpose, payload: str) -> str:
        """Return a token that carries a text."""
        head = _encode(payload.encode())
        return f"{head}.{_encode(self._signature(self.secrets[0], purpose, head))}"

    def payload(self, purpose: Purpose, token: str) -> str | None:
        """Return the text of a token; None for one that we have not written for this purpose."""
        head, dot, signature = token.partition(".")
        told = _decode(signature)
        if not dot or told is None:
            return None
        for secret in self.secrets:
            if hmac.compare_digest(self._signature(secret, purpose, head), told):
                decoded = _decode(head)
                return None if decoded is None else decoded.decode()
        return None

    def _signature(self, secret: bytes, purpose: Purpose, head: str) -> bytes:
        message = f"{purpose}.{head}".encode()
        return hmac.new(secret, message, hashlib.sha256).digest()[:_SIGNATURE_BYTES]


def _encode(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _decode(text: str) -> bytes | None:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None

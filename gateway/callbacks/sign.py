"""Signs callbacks by the Standard Webhooks scheme, as OpenAI's SDKs verify it.

Facts and the test vector: protocols/openai_images.md §10.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import UTC, datetime

from standardwebhooks.webhooks import Webhook

#: Bytes of randomness in a secret; the scheme asks for 24 to 64.
SECRET_BYTES = 32


def make_secret(random_bytes: bytes) -> str:
    """Return ``whsec_`` and base64 of 32 random bytes; ValueError for any other number."""
    if len(random_bytes) != SECRET_BYTES:
        raise ValueError(f"a secret is made of {SECRET_BYTES} random bytes")
    return f"whsec_{base64.b64encode(random_bytes).decode()}"


def signed_headers(
    secrets: Sequence[str], *, delivery: str, at_ms: int, body: bytes
) -> dict[str, str]:
    """Return the three headers of one attempt; one signature for each secret, newest first.

    `at_ms` is the attempt's own time: receivers refuse what is five minutes old. ValueError for a
    body that is not UTF-8.
    """
    # The library reads any moment as if it were written in UTC.
    at = datetime.fromtimestamp(at_ms // 1000, UTC)
    text = body.decode()
    signatures = [Webhook(secret).sign(delivery, at, text) for secret in secrets]
    return {
        "webhook-id": delivery,
        "webhook-timestamp": str(at_ms // 1000),
        "webhook-signature": " ".join(signatures),
    }

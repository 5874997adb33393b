"""Checks the address that a client wants to be called back at (protocols/evolink.md §6)."""

from __future__ import annotations

import socket

from gateway.domain.errors import InvalidRequest
from gateway.network.guard import DestinationRefusedError, Guard

PARAM = "callback_url"
MAX_CHARS = 2048


async def check_callback_url(url: object, guard: Guard) -> str:
    """Return a URL that callbacks may be sent to, as far as one can tell now.

    Every attempt checks it again. Its host is looked up: one that does not exist or leads inside is
    refused; when the lookup itself fails, the URL passes. Raises InvalidRequest.
    """
    if not isinstance(url, str):
        raise _invalid("expected a string.", code="invalid_type")
    if len(url) > MAX_CHARS:
        raise _invalid(
            f"expected at most {MAX_CHARS} characters, but got {len(url)}.",
            code="string_above_max_length",
        )
    try:
        host, port = guard.check_url(url)
        await guard.resolve(host, port)
    except DestinationRefusedError as refusal:
        raise _invalid(f"{refusal}.") from None
    except socket.gaierror as error:
        if error.errno == socket.EAI_NONAME:
            # In the words of a refusal: what exists only inside is not told from what does not.
            raise _invalid("its host is not on the public Internet.") from None
    except OSError:
        pass
    return url


def _invalid(reason: str, *, code: str = "invalid_value") -> InvalidRequest:
    return InvalidRequest(f"Invalid '{PARAM}': {reason}", param=PARAM, code=code)

"""Bearer key → the team that calls."""

from __future__ import annotations

from starlette.requests import Request

from gateway.access.interface import KeyDirectory
from gateway.domain.accounts import Caller
from gateway.domain.errors import NotAuthenticated
from gateway.edge.record import record_of

#: Where OpenAI sends people for a key, and so does a server that is exactly like it.
OPENAI_KEYS_URL = "https://platform.openai.com/account/api-keys"

#: Keys shorter than this are masked whole; of longer ones OpenAI shows both ends.
MASK_WHOLE_BELOW = 20


async def authenticate(
    request: Request, keys: KeyDirectory, help_url: str, *, anew: bool = False
) -> Caller:
    """Return who calls, and note the team on the request's record.

    `anew` asks the store and no cache. Raises NotAuthenticated without a key or with an unknown
    one; the message shows a masked key.
    Raises StoreUnavailable when the key may be one that only the store knows.
    """
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    key = key.strip()
    if scheme.lower() != "bearer" or not key:
        raise NotAuthenticated(
            "You didn't provide an API key. You need to provide your API key in an Authorization"
            " header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY)."
            f" {_where(help_url)}",
            code=None,
        )
    caller = await (keys.refresh(key) if anew else keys.find(key))
    if caller is None:
        raise NotAuthenticated(
            f"Incorrect API key provided: {mask(key)}. {_where(help_url)}", code="invalid_api_key"
        )
    record_of(request).team = caller.team.id
    return caller


def mask(key: str) -> str:
    """Return a key as it may be shown: both ends of a long one, nothing of a short one."""
    if len(key) < MASK_WHOLE_BELOW:
        return "****"
    return f"{key[:7]}****{key[-4:]}"


def _where(help_url: str) -> str:
    if help_url:
        return f"You can find your API key at {help_url}."
    return "Ask the team that runs this gateway for a key."

"""Ways to answer badly, alike on every route: a refusal, silence, or a body that is not whole.

A reply is named in a marker or in a rule as ``WHAT``, ``WHAT:SECONDS`` or either with ``*N`` behind
it, which plays it for the first N requests only.
"""

import asyncio
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

import orjson
from starlette.responses import HTMLResponse, PlainTextResponse, Response

from gateway.simulator.errors import Problem, invalid_request
from gateway.simulator.hangup import CutShort, HangUp, Trickle
from gateway.simulator.query_faults import FileProblem

AnyProblem = Problem | FileProblem

_REPLY = re.compile(r"(?P<what>[^*]*?)(?::(?P<seconds>[0-9.]+))?(?:\*(?P<times>[0-9]{1,6}))?")
_SECONDS = 3.0
_BAD_GATEWAY_PAGE = "<html><head><title>502 Bad Gateway</title></head><body>502</body></html>"
_UNSUCCESSFUL = {"code": 500, "message": "failed", "msg": "failed", "success": False}


class Manner(Enum):
    """How a request is answered; values are the names in markers."""

    REFUSE = "refuse"
    """With an error envelope; named by its code instead."""
    DROP = "drop"
    """The connection closes without a byte."""
    HTML = "html"
    """A proxy's 502 page."""
    TEXT = "text"
    """503 and a line of plain text."""
    EMPTY = "empty"
    """200 and no body."""
    UNSUCCESSFUL = "unsuccessful"
    """200 and ``success: false`` (§7, §8)."""
    LATE = "late"
    """The proper answer, after some seconds."""
    SLOW = "slow"
    """The proper answer, its body trickling over some seconds."""
    TRUNCATED = "truncated"
    """The first half of the proper body, as if it were all of it."""
    CUT = "cut"
    """The first half of the proper body, then the connection closes before the announced end."""
    WITHOUT_ID = "no-id"
    """The proper answer without its ``id``."""


_TIMED = frozenset({Manner.LATE, Manner.SLOW})
_REPLACING = frozenset(
    {
        Manner.REFUSE,
        Manner.DROP,
        Manner.HTML,
        Manner.TEXT,
        Manner.EMPTY,
        Manner.UNSUCCESSFUL,
    }
)
#: Before a submit does anything there is no proper body that could arrive in part.
BEFORE_SUBMIT = _REPLACING - {Manner.REFUSE} | {Manner.LATE}
ANY_MANNER = frozenset(Manner) - {Manner.REFUSE}


@dataclass(frozen=True, slots=True)
class Reply:
    """Say how to answer; made by ``read_reply``."""

    manner: Manner
    problem: AnyProblem | None = None
    """What a ``REFUSE`` says."""
    seconds: float = 0.0
    """How long ``LATE`` and ``SLOW`` take."""
    times: int | None = None
    """Play it for this many requests only; ``None``: for all of them."""

    @property
    def replaces(self) -> bool:
        """Tell whether the answer can be given without doing what was asked."""
        return self.manner in _REPLACING


def read_reply(
    name: str,
    value: str,
    problems: Mapping[str, AnyProblem],
    manners: frozenset[Manner] = ANY_MANNER,
) -> Reply:
    """Return the reply that ``value`` names; raise ``RefusedError`` (400) for an unknown one."""
    match = _REPLY.fullmatch(value.casefold())
    known = {manner.value: manner for manner in manners}
    if match is not None:
        what, times = match["what"], int(match["times"]) if match["times"] else None
        seconds = _seconds(match["seconds"])
        if match["seconds"] is None and what in problems:
            return Reply(Manner.REFUSE, problem=problems[what], times=times)
        manner = known.get(what)
        if manner in _TIMED:
            return Reply(manner, seconds=seconds, times=times)
        if manner is not None and match["seconds"] is None:
            return Reply(manner, times=times)
    raise invalid_request(
        f"marker [[{name}:...]] knows {', '.join([*sorted(known), *sorted(problems)])}", "prompt"
    )


def _seconds(text: str | None) -> float:
    if text is None:
        return _SECONDS
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise invalid_request("seconds in a marker must be a number", "prompt")
    return seconds


def instead(reply: Reply, refuse: Callable[[AnyProblem], Response]) -> Response:
    """Return an answer that needs nothing done; ``ValueError`` for a reply that distorts one."""
    match reply.manner:
        case Manner.REFUSE if reply.problem is not None:
            return refuse(reply.problem)
        case Manner.DROP:
            return HangUp()
        case Manner.HTML:
            return HTMLResponse(_BAD_GATEWAY_PAGE, status_code=502)
        case Manner.TEXT:
            return PlainTextResponse("upstream connect error or disconnect", status_code=503)
        case Manner.EMPTY:
            return Response(status_code=200)
        case Manner.UNSUCCESSFUL:
            return Response(orjson.dumps(_UNSUCCESSFUL), media_type="application/json")
        case _:
            raise ValueError(f"{reply.manner.value} needs a proper answer")


def _told(proper: Response) -> dict[str, str]:
    """Return what an answer says of its body beside length and type, which each has of its own."""
    names = ("content-range", "accept-ranges", "etag")
    return {name: proper.headers[name] for name in names if name in proper.headers}


async def distorted(
    reply: Reply, proper: Response, refuse: Callable[[AnyProblem], Response]
) -> Response:
    """Return what is answered in place of ``proper``, once it is time to answer."""
    if reply.replaces:
        return instead(reply, refuse)
    content = bytes(proper.body)
    half = content[: len(content) // 2]
    match reply.manner:
        case Manner.LATE:
            await asyncio.sleep(reply.seconds)
            return proper
        case Manner.TRUNCATED:
            return Response(half, proper.status_code, media_type=proper.media_type)
        case Manner.CUT:
            return CutShort(content, proper.status_code, _told(proper), proper.media_type)
        case Manner.WITHOUT_ID:
            body = orjson.loads(content)
            body.pop("id", None)
            return Response(orjson.dumps(body), proper.status_code, media_type=proper.media_type)
        case _:
            return Trickle(content, reply.seconds, proper.status_code, proper.media_type)

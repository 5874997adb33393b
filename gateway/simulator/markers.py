"""Stage directions in a prompt, such as ``[[fail:service_error]]`` or ``[[latency:30]]``.

A marker changes how the simulator plays one request. Markers are cut out of the prompt before it
is counted or drawn; double brackets with an unknown name are ordinary text; a later marker wins
over an earlier one of its kind; a known name with an impossible value refuses the request, so that
a typing mistake in a test cannot pass as success.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import TypeVar

from gateway.simulator.errors import Problem, invalid_request
from gateway.simulator.faults import SUBMIT_FAULTS, TASK_FAULTS
from gateway.simulator.settings import Envelope, Shape

_MARKER = re.compile(r"\[\[([a-z-]+)(?::([^\[\]]*))?\]\]")
_T = TypeVar("_T")


class Submit(Enum):
    """How the submit is answered when it is not refused in an envelope."""

    NORMAL = auto()
    DROPPED = auto()
    """The task exists and is billed; the connection closes without an answer."""
    WITHOUT_ID = auto()
    """The task exists and is billed; the 200 answer lacks ``id``."""
    HTML = auto()
    """A proxy's 502 page; nothing was created."""


class Ending(Enum):
    """What becomes of an accepted task when it is due."""

    PICTURES = auto()
    NO_RESULTS = auto()
    """Completed and charged, with an empty ``results``."""
    FAILED = auto()
    FAILED_SILENTLY = auto()
    """Failed without an ``error`` object."""
    CANCELLED = auto()
    CANCELED = auto()


class ResultFile(Enum):
    """What the result link serves."""

    PICTURE = auto()
    MISSING = auto()
    NOT_AN_IMAGE = auto()


@dataclass(frozen=True, slots=True)
class Script:
    """Tell how to play one request; the default plays it straight."""

    submit: Submit = Submit.NORMAL
    refusal: Problem | None = None
    envelope: Envelope | None = None
    latency_s: float | None = None
    shape: Shape | None = None
    ending: Ending = Ending.PICTURES
    failure: str = ""
    """Task error code when ``ending`` is ``FAILED``."""
    unknown_status: bool = False
    """Report a status outside the documents until the task is due."""
    result: ResultFile = ResultFile.PICTURE


def read_script(prompt: str) -> tuple[Script, str]:
    """Return the script of a prompt and the prompt without its markers.

    Raise ``RefusedError`` (400 ``invalid_request``) for a marker whose value means nothing.
    """
    script = Script()
    kept: list[str] = []
    end = 0
    for match in _MARKER.finditer(prompt):
        direct = _DIRECTIONS.get(match[1])
        if direct is None:
            continue
        script = direct(script, match[2] or "")
        kept.append(prompt[end : match.start()])
        end = match.end()
    if not kept:
        return script, prompt
    kept.append(prompt[end:])
    return script, "".join(kept).strip()


def _choice(name: str, value: str, rows: dict[str, _T]) -> _T:
    try:
        return rows[value.casefold()]
    except KeyError:
        known = ", ".join(sorted(rows))
        raise invalid_request(f"marker [[{name}:...]] knows {known}", "prompt") from None


def _seconds(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise invalid_request("marker [[latency:...]] takes seconds", "prompt")
    return seconds


def _end(script: Script, ending: Ending, failure: str = "") -> Script:
    return replace(script, ending=ending, failure=failure)


_ENVELOPES = {str(form): form for form in Envelope}
_SHAPES = {str(form): form for form in Shape}
_STATUSES = {"cancelled": Ending.CANCELLED, "canceled": Ending.CANCELED}
_RESULTS = {"404": ResultFile.MISSING, "not-image": ResultFile.NOT_AN_IMAGE}
_FAILURES = {code: code for code in TASK_FAULTS}

_DIRECTIONS: dict[str, Callable[[Script, str], Script]] = {
    "fail": lambda script, value: _end(script, Ending.FAILED, _choice("fail", value, _FAILURES)),
    "submit": lambda script, value: replace(
        script, refusal=_choice("submit", value, SUBMIT_FAULTS)
    ),
    "envelope": lambda script, value: replace(
        script, envelope=_choice("envelope", value, _ENVELOPES)
    ),
    "latency": lambda script, value: replace(script, latency_s=_seconds(value)),
    "shape": lambda script, value: replace(script, shape=_choice("shape", value, _SHAPES)),
    "status": lambda script, value: _end(script, _choice("status", value, _STATUSES)),
    "result": lambda script, value: replace(script, result=_choice("result", value, _RESULTS)),
    "drop-response": lambda script, _: replace(script, submit=Submit.DROPPED),
    "no-id": lambda script, _: replace(script, submit=Submit.WITHOUT_ID),
    "html": lambda script, _: replace(script, submit=Submit.HTML),
    "empty-results": lambda script, _: _end(script, Ending.NO_RESULTS),
    "failed-without-error": lambda script, _: _end(script, Ending.FAILED_SILENTLY),
    "unknown-status": lambda script, _: replace(script, unknown_status=True),
}

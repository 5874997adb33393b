"""Stage directions in a prompt, such as ``[[fail:service_error]]`` or ``[[latency:30]]``.

A marker changes how the simulator plays one request. Markers are cut out of the prompt before it
is counted or drawn; double brackets with an unknown name are ordinary text; a later marker wins
over an earlier one of its kind; a known name with an impossible value refuses the request, so that
a typing mistake in a test cannot pass as success. ``docs/simulator.md`` lists them all.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import StrEnum
from typing import Any, TypeVar

from gateway.simulator.errors import Problem, invalid_request
from gateway.simulator.faults import SUBMIT_FAULTS, TASK_FAULTS
from gateway.simulator.latency import read_profile
from gateway.simulator.query_faults import FILE_FAULTS, QUERY_FAULTS
from gateway.simulator.replies import (
    ANY_MANNER,
    BEFORE_SUBMIT,
    AnyProblem,
    Manner,
    Reply,
    read_reply,
)
from gateway.simulator.script import (
    Ending,
    ErrorForm,
    Leaning,
    Letter,
    LetterForm,
    Moment,
    Outlook,
    Progress,
    ResultFile,
    Script,
    Wait,
)
from gateway.simulator.settings import Envelope, Idempotency, References, RetryAfter, Shape

Direction = Callable[[Script, str], Script]

_MARKER = re.compile(r"\[\[([a-z-]+)(?::([^\[\]]*))?\]\]")
_T = TypeVar("_T")
_Form = TypeVar("_Form", bound=StrEnum)
_LETTERS_MAX = 1000
_PICTURES_MAX = 16


def read_script(prompt: str, script: Script | None = None) -> tuple[Script, str]:
    """Return the script of a prompt and the prompt without its markers.

    Markers add to ``script``. Raises ``RefusedError`` (400, ``param`` is ``prompt``) for a marker
    whose value means nothing.
    """
    return _read(prompt, script or Script(), _DIRECTIONS)


def read_rule(route: str, play: str) -> Script:
    """Return what a rule for ``route`` plays: for submits any markers, for others one reply.

    Raises ``RefusedError`` for an impossible value or for markers that the route cannot play.
    """
    directions = _DIRECTIONS if route == "submit" else _RULES[route]
    script, rest = _read(play, Script(), directions)
    if rest:
        raise invalid_request(f"a rule for {route} cannot play {rest!r}", "play")
    return script


def _read(prompt: str, script: Script, directions: Mapping[str, Direction]) -> tuple[Script, str]:
    kept: list[str] = []
    end = 0
    for match in _MARKER.finditer(prompt):
        direct = directions.get(match[1])
        if direct is None:
            continue
        script = direct(script, match[2] or "")
        kept.append(prompt[end : match.start()])
        end = match.end()
    if not kept:
        return script, prompt
    kept.append(prompt[end:])
    return script, "".join(kept).strip()


def _choice(name: str, value: str, rows: Mapping[str, _T]) -> _T:
    try:
        return rows[value.casefold()]
    except KeyError:
        known = ", ".join(sorted(rows))
        raise invalid_request(f"marker [[{name}:...]] knows {known}", "prompt") from None


def _form(name: str, value: str, forms: type[_Form]) -> _Form:
    return _choice(name, value, {str(form): form for form in forms})


def _seconds(name: str, value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise invalid_request(f"marker [[{name}:...]] takes seconds", "prompt")
    return seconds


def _count(name: str, value: str, most: int) -> int:
    if not (value.isascii() and value.isdigit() and 1 <= int(value) <= most):
        raise invalid_request(f"marker [[{name}:...]] takes a number from 1 to {most}", "prompt")
    return int(value)


def _status(name: str, value: str) -> int:
    if not (value.isascii() and value.isdigit() and 400 <= int(value) <= 599):  # noqa: PLR2004 - HTTP's errors
        raise invalid_request(f"marker [[{name}:...]] takes a status from 400 to 599", "prompt")
    return int(value)


def _end(script: Script, ending: Ending, failure: str = "") -> Script:
    return replace(script, ending=ending, failure=failure)


def _wait(value: str) -> Wait:
    """Read ``5``, ``seconds:5``, ``date:5``, ``date`` or ``none``."""
    form, _, seconds = value.rpartition(":") if ":" in value or value.isdigit() else (value, "", "")
    chosen = _form("retry-after", form or "seconds", RetryAfter)
    return Wait(chosen, _count("retry-after", seconds, 86_400) if seconds else None)


def _profile(script: Script, value: str) -> Script:
    try:
        return replace(script, profile=read_profile(value))
    except ValueError as mistake:
        raise invalid_request(f"marker [[latency-profile:...]]: {mistake}", "prompt") from None


def _letters(value: str) -> tuple[Letter, ...]:
    """Read what becomes of the callback."""
    kind, _, number = value.casefold().partition(":")
    if kind in {"late", "storm"}:
        if kind == "late":
            return (Letter(after_s=_seconds("callback:late", number)),)
        return (Letter(copies=_count("callback:storm", number, _LETTERS_MAX)),)
    return _choice("callback", value, _LETTERS)


_LETTERS: dict[str, tuple[Letter, ...]] = {
    "drop": (),
    "once": (Letter(),),
    "twice": (Letter(copies=2),),
    "early": (Letter(Moment.HALFWAY, form=LetterForm.COMPLETED),),
    "trimmed": (Letter(form=LetterForm.TRIMMED),),
    "forged": (Letter(Moment.SUBMIT, form=LetterForm.FORGED), Letter()),
    "foreign": (Letter(Moment.SUBMIT, form=LetterForm.FOREIGN), Letter()),
    "garbage": (Letter(form=LetterForm.GARBAGE),),
}
_STATUSES = {"cancelled": Ending.CANCELLED, "canceled": Ending.CANCELED}
_STUCK = {"pending": Outlook.PENDING, "processing": Outlook.PROCESSING}
_EXPIRED = {"404": 404, "410": 410}
_FAILURES = {code: code for code in TASK_FAULTS}
_RESULT_FAULTS = {
    str(status): Problem(status, "", text, "file_error")
    for status, text in (
        (403, "Forbidden"),
        (404, "Not Found"),
        (410, "Gone"),
        (429, "Too Many Requests"),
        (500, "Internal Server Error"),
        (503, "Service Unavailable"),
    )
}
_FILES = {str(form): form for form in ResultFile}


def _result(script: Script, value: str) -> Script:
    if value.casefold() in _FILES:
        return replace(script, file=_FILES[value.casefold()])
    return replace(script, result=read_reply("result", value, _RESULT_FAULTS))


def _replying(
    field: str,
    name: str,
    problems: Mapping[str, AnyProblem],
    manners: frozenset[Manner] = ANY_MANNER,
) -> Direction:
    """Return the direction that stores a reply in a field of the script."""

    def direct(script: Script, value: str) -> Script:
        changes: dict[str, Any] = {field: read_reply(name, value, problems, manners)}
        return replace(script, **changes)

    return direct


_ENVELOPE: dict[str, Direction] = {
    "envelope": lambda script, value: replace(script, envelope=_form("envelope", value, Envelope)),
    "retry-after": lambda script, value: replace(script, wait=_wait(value)),
    "http": lambda script, value: replace(script, http_status=_status("http", value)),
}

_DIRECTIONS: dict[str, Direction] = _ENVELOPE | {
    # The submit's answer.
    "submit": _replying("submit", "submit", SUBMIT_FAULTS, BEFORE_SUBMIT),
    "created": _replying("created", "created", SUBMIT_FAULTS),
    "drop-before": lambda script, _: replace(script, submit=Reply(Manner.DROP)),
    "drop-response": lambda script, _: replace(script, created=Reply(Manner.DROP)),
    "html": lambda script, _: replace(script, submit=Reply(Manner.HTML)),
    "no-id": lambda script, _: replace(script, created=Reply(Manner.WITHOUT_ID)),
    "at-once": lambda script, _: replace(script, at_once=True),
    "idempotency": lambda script, value: replace(
        script, idempotency=_form("idempotency", value, Idempotency)
    ),
    "rules": lambda script, value: replace(
        script, leanings=script.leanings | {_form("rules", value, Leaning)}
    ),
    "references": lambda script, value: replace(
        script, references=_form("references", value, References)
    ),
    "model": lambda script, value: replace(script, model=value),
    "label": lambda script, value: replace(script, label=value),
    "revised-prompt": lambda script, value: replace(script, revised=value),
    # The task's life.
    "latency": lambda script, value: replace(script, latency_s=_seconds("latency", value)),
    "latency-profile": _profile,
    "stuck": lambda script, value: replace(script, outlook=_choice("stuck", value, _STUCK)),
    "unknown-status": lambda script, _: replace(script, outlook=Outlook.UNKNOWN),
    "progress": lambda script, value: replace(script, progress=_form("progress", value, Progress)),
    "poll": _replying("poll", "poll", QUERY_FAULTS),
    "expired": lambda script, value: replace(script, expired=_choice("expired", value, _EXPIRED)),
    # Its ending.
    "fail": lambda script, value: _end(script, Ending.FAILED, _choice("fail", value, _FAILURES)),
    "message": lambda script, value: replace(script, message=value),
    "error": lambda script, value: replace(script, error_form=_form("error", value, ErrorForm)),
    "failed-without-error": lambda script, _: _end(script, Ending.FAILED_SILENTLY),
    "status": lambda script, value: _end(script, _choice("status", value, _STATUSES)),
    "empty-results": lambda script, _: _end(script, Ending.NO_RESULTS),
    "images": lambda script, value: replace(
        script, pictures=_count("images", value, _PICTURES_MAX)
    ),
    "shape": lambda script, value: replace(script, shape=_form("shape", value, Shape)),
    "result": _result,
    "links": lambda script, value: replace(script, links=value.rstrip("/")),
    "callback": lambda script, value: replace(script, letters=_letters(value)),
}


def _reading(route: str) -> dict[str, Direction]:
    return _ENVELOPE | {route: _replying("other", route, QUERY_FAULTS)}


_RULES: dict[str, dict[str, Direction]] = {
    "poll": _reading("poll"),
    "list": _reading("list"),
    "batch": _reading("batch"),
    "credits": _reading("credits"),
    "result": {"result": _replying("other", "result", _RESULT_FAULTS)},
    "upload": {"upload": _replying("other", "upload", FILE_FAULTS)},
    "files": {"files": _replying("other", "files", FILE_FAULTS)},
}
ROUTES = ("submit", *_RULES)
"""The routes that a rule can be for."""

"""What is wrong with a settings file, said so that it can be put right.

A problem names the place as a dotted path and says what was expected. What was written there is
shown only where it is one of a few words and looks like a word: it may be a misplaced secret.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")

#: No digits and few letters: a word somebody typed, never a key somebody pasted.
_WORD = re.compile(r"[a-z][a-z_-]{0,19}")

#: Where pydantic complains about a table's name, it puts this after it.
_NAME_MARK = "[key]"

_EXPECTED = {
    "missing": "this setting is required",
    "string_type": "expected text in quotes",
    "string_too_short": "expected some text",
    "int_type": "expected a whole number",
    "greater_than_equal": "expected {ge} or more",
    "less_than_equal": "expected {le} or less",
    "tuple_type": "expected a list in brackets",
    "too_short": "expected at least one entry",
    "model_type": "expected a table",
    "dict_type": "expected a table",
    "mapping_type": "expected a table",
    "union_tag_invalid": "expected {discriminator} to be one of {expected_tags}",
    "union_tag_not_found": "{discriminator} says which form this is, and is required",
    "string_pattern_mismatch": "this text does not have the form that is expected here",
}

Place = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake: `path` as in ``teams.design.budgets[0].per``, and what was expected there."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


class ConfigError(Exception):
    """The settings cannot be used; `problems` are all the mistakes, at least one."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in problems))


def dotted(place: Iterable[str | int]) -> str:
    """Return a place in the file as TOML would write it: ``models."gpt-image-1.5".routes[0]``."""
    path = ""
    for step in place:
        if isinstance(step, int):
            path += f"[{step}]"
        else:
            bare = step if _BARE_KEY.fullmatch(step) else json.dumps(step, ensure_ascii=False)
            path += f".{bare}" if path else bare
    return path


def listed(names: Iterable[str], *, last: str = "or") -> str:
    """Return names as a sentence lists them: ``a, b or c``."""
    *first, final = names
    return f"{', '.join(first)} {last} {final}" if first else final


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``did you mean x?`` when a known name is near, else the list of what is known."""
    candidates = sorted(known)
    near = difflib.get_close_matches(name, candidates, n=1)
    if near:
        return f"did you mean {near[0]}?"
    return f"known here: {', '.join(candidates)}" if candidates else "there are none"


def problems_in(error: ValidationError, model: type[BaseModel]) -> list[Problem]:
    """Return every mistake pydantic found, in the words of this product."""
    return [
        Problem(dotted(step for step in detail["loc"] if step != _NAME_MARK), _say(detail, model))
        for detail in error.errors(include_url=False)
    ]


def _say(detail: ErrorDetails, model: type[BaseModel]) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind == "extra_forbidden":
        *parents, name = detail["loc"]
        known = _names_at(model, parents)
        return f"unknown setting; {did_you_mean(str(name), known)}" if known else "unknown setting"
    if kind in ("enum", "literal_error"):
        return f"expected {context['expected'].replace(chr(39), '')}{_got(detail['input'])}"
    return _EXPECTED.get(kind, "this value cannot be used here").format_map(context)


def _got(written: object) -> str:
    is_word = isinstance(written, str) and _WORD.fullmatch(written)
    return f', got "{written}"' if is_word else ""


def _names_at(model: type[BaseModel], parents: Iterable[str | int]) -> list[str]:
    """Return the names that the file may use in the table at this place.

    None where a table may have one of several shapes, which its place does not tell.
    """
    here: Any = model
    for step in parents:
        here = _inside(here, step)
    if not (isinstance(here, type) and issubclass(here, BaseModel)):
        return []
    return [field.alias or name for name, field in here.model_fields.items()]


def _inside(here: Any, step: str | int) -> Any:
    """Return the type one step further down; None where that cannot be told."""
    origin, inner = get_origin(here), get_args(here)
    if origin in (Union, UnionType):
        shapes = [each for each in inner if each is not NoneType]
        chosen = [each for each in shapes if getattr(each, "__name__", "") == step]
        # What is only optional is no choice, and no step.
        return chosen[0] if chosen else _inside(shapes[0], step) if len(shapes) == 1 else None
    if origin is Annotated:
        return _inside(inner[0], step)
    if isinstance(origin, type):
        return inner[1] if issubclass(origin, Mapping) else inner[0]
    if isinstance(here, type) and issubclass(here, BaseModel):
        fields = {field.alias or name: field for name, field in here.model_fields.items()}
        return fields[str(step)].annotation if step in fields else None
    return None

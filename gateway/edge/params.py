"""OpenAI's rules for single fields, as data: types, bounds, and the exact texts of refusals.

Texts and codes are protocols/openai_images.md §7.3; a checker returns the value or raises.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass

from gateway.domain.errors import InvalidRequest
from gateway.domain.money import MAX_MICROUSD, MICROUSD_PER_USD, parse_microusd

#: Digits as a form has them; more than these are no number of anything here.
_INTEGER = re.compile(r"-?[0-9]{1,18}")

#: A link that an upstream can fetch: no user or password, nothing that is no part of a URL.
_LINK = re.compile(r"https?://[A-Za-z0-9._~\[\]:%-]+([/?#][!-~]*)?")

#: Dollars as readers are told to write them, as fine as a micro-dollar.
_DOLLARS = {
    "anyOf": [
        {
            "type": "number",
            "minimum": 0,
            "maximum": MAX_MICROUSD // MICROUSD_PER_USD,
            "multipleOf": 0.000001,
        },
        {"type": "string", "pattern": r"^(0|[1-9][0-9]{0,8})(\.[0-9]{1,6})?$"},
    ]
}


def _as_it_is(_name: str, written: str) -> object:
    """Return the text of a form's field: what most fields are."""
    return written


@dataclass(frozen=True, slots=True)
class Checker:
    """Checks one value of one field: (field name, value) → value.

    `schema` is the JSON Schema of what it takes, for `/openapi.json`. `from_text` is what a form's
    text stands for in JSON, before it is checked: (field name, text) → value.
    """

    check: Callable[[str, object], object]
    schema: Mapping[str, object]
    from_text: Callable[[str, str], object] = _as_it_is

    def __call__(self, name: str, value: object) -> object:
        """Return the value as it is used. Raises InvalidRequest."""
        return self.check(name, value)


@dataclass(frozen=True, slots=True)
class Param:
    """One field: how it is checked, and whether an explicit null means that it was left out.

    A field that is `ignored` is checked, and has no effect.
    """

    name: str
    check: Checker
    nullable: bool = True
    ignored: bool = False

    def read(self, value: object) -> object:
        """Return the value as it is used. Raises InvalidRequest."""
        return self.check(self.name, value)

    def from_text(self, written: str, *, null: bool) -> object:
        """Return what a form's text stands for in JSON; `null` lets the word stand for null.

        OpenAI's SDK for node tells people to write that word (protocols/openai_images.md §3.1).
        Raises InvalidRequest.
        """
        if null and self.nullable and written == "null":
            return None
        return self.check.from_text(self.name, written)


def integer(minimum: int, maximum: int) -> Checker:
    """Take a whole number within bounds; 1.0 is one, as in JSON Schema."""

    def check(name: str, value: object) -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise wrong_type(name, "an integer", value)
        if value < minimum:
            raise InvalidRequest(
                f"Invalid '{name}': integer below minimum value."
                f" Expected a value >= {minimum}, but got {value} instead.",
                param=name,
                code="integer_below_min_value",
            )
        if value > maximum:
            raise InvalidRequest(
                f"Invalid '{name}': integer above maximum value."
                f" Expected a value <= {maximum}, but got {value} instead.",
                param=name,
                code="integer_above_max_value",
            )
        return value

    schema = {"type": "integer", "minimum": minimum, "maximum": maximum}
    return Checker(check, schema, _integer_from_text)


def _integer_from_text(name: str, written: str) -> object:
    if _INTEGER.fullmatch(written) is None:
        raise InvalidRequest(
            f"Invalid type for '{name}': expected an integer, but got a string value that could not"
            " be converted into an integer.",
            param=name,
            code="invalid_type",
        )
    return int(written)


def boolean() -> Checker:
    """Take true or false."""

    def check(name: str, value: object) -> bool:
        if not isinstance(value, bool):
            raise wrong_type(name, "a boolean", value)
        return value

    # Any other word stays a text, which is refused as one.
    words = {"true": True, "false": False}
    return Checker(check, {"type": "boolean"}, lambda _, written: words.get(written, written))


def choice(options: Sequence[str], *, also: Mapping[str, str] | None = None) -> Checker:
    """Take one of a list of words; `also` is words that stand for one of them, and are not told."""
    words = {option: option for option in options} | {**(also or {})}

    def check(name: str, value: object) -> str:
        if not isinstance(value, str):
            raise wrong_type(name, f"one of {_listed(options, 'or')}", value)
        if value not in words:
            raise InvalidRequest(
                f"Invalid value: '{value}'. Supported values are: {_listed(options, 'and')}.",
                param=name,
                code="invalid_value",
            )
        return words[value]

    return Checker(check, {"type": "string", "enum": [*words]})


def text(*, maximum_chars: int, maximum_bytes: int = sys.maxsize) -> Checker:
    """Take a string of at least one character; only white space is fine. Bytes are UTF-8's."""

    def check(name: str, value: object) -> str:
        if not isinstance(value, str):
            raise wrong_type(name, "a string", value)
        if not value:
            raise InvalidRequest(
                f"Invalid '{name}': empty string. Expected a string with minimum length 1,"
                " but got an empty string instead.",
                param=name,
                code="empty_string",
            )
        if len(value) > maximum_chars:
            raise too_long(name, maximum_chars, len(value))
        size_bytes = len(value.encode("utf-8", "surrogatepass"))
        if size_bytes > maximum_bytes:
            raise InvalidRequest(
                f"Invalid '{name}': string too long. Expected a string of at most {maximum_bytes}"
                f" bytes in UTF-8, but got a string of {size_bytes} bytes instead.",
                param=name,
                code="string_above_max_length",
            )
        return value

    return Checker(check, {"type": "string", "minLength": 1, "maxLength": maximum_chars})


def check_length(name: str, value: Sized, *, maximum: int) -> None:
    """Raise InvalidRequest for an array that is empty or holds more than `maximum`."""
    if not value:
        raise InvalidRequest(
            f"Invalid '{name}': empty array. Expected an array with minimum length 1, but got an"
            " empty array instead.",
            param=name,
            code="empty_array",
        )
    if len(value) > maximum:
        raise InvalidRequest(
            f"Invalid '{name}': array too long. Expected an array with maximum length"
            f" {maximum}, but got an array with length {len(value)} instead.",
            param=name,
            code="array_above_max_length",
        )


def mapping() -> Checker:
    """Take a JSON object, whatever is in it."""

    def check(name: str, value: object) -> object:
        if not isinstance(value, dict):
            raise wrong_type(name, "an object", value)
        return value

    return Checker(check, {"type": "object"})


def links(*, maximum: int, maximum_chars: int) -> Checker:
    """Take one or more links to pictures, http or https; the value is a tuple of them."""

    def check(name: str, value: object) -> tuple[str, ...]:
        if not isinstance(value, list):
            raise wrong_type(name, "an array of strings", value)
        check_length(name, value, maximum=maximum)
        return tuple(each(f"{name}[{index}]", link) for index, link in enumerate(value))

    def each(name: str, link: object) -> str:
        written = str(one(name, link))
        if _LINK.fullmatch(written) is None:
            raise InvalidRequest(
                f"Invalid '{name}': expected a link that begins with http:// or https://.",
                param=name,
                code="invalid_value",
            )
        return written

    one = text(maximum_chars=maximum_chars)
    items = {**one.schema, "pattern": f"^{_LINK.pattern}$"}
    schema = {"type": "array", "items": items, "minItems": 1, "maxItems": maximum}
    return Checker(check, schema)


def dollars() -> Checker:
    """Take an amount in dollars, as a number or a text; the value is micro-dollars."""

    def check(name: str, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise wrong_type(name, "an amount in dollars", value)
        try:
            # The shortest text of a JSON number is the amount that was written.
            return parse_microusd(str(value))
        except ValueError as error:
            raise InvalidRequest(
                f"Invalid '{name}': {error}.", param=name, code="invalid_value"
            ) from None

    return Checker(check, _DOLLARS)


def label() -> Checker:
    """Take anything that names an end user; OpenAI does not check its type."""

    def check(name: str, value: object) -> str:
        try:
            return value if isinstance(value, str) else str(value)
        except RecursionError:
            raise wrong_type(name, "a string", value) from None

    return Checker(check, {})


def too_long(name: str, maximum_chars: int, chars: int) -> InvalidRequest:
    """Return the refusal of a text that is longer than its field may be."""
    return InvalidRequest(
        f"Invalid '{name}': string too long. Expected a string with maximum length"
        f" {maximum_chars}, but got a string with length {chars} instead.",
        param=name,
        code="string_above_max_length",
    )


def missing(name: str) -> InvalidRequest:
    """Return the refusal of a call without a required field."""
    return InvalidRequest(
        f"Missing required parameter: '{name}'.", param=name, code="missing_required_parameter"
    )


def unknown(name: str) -> InvalidRequest:
    """Return the refusal of a field that does not exist."""
    return InvalidRequest(f"Unknown parameter: '{name}'.", param=name, code="unknown_parameter")


def wrong_type(name: str, expected: str, value: object) -> InvalidRequest:
    """Return the refusal of a value of the wrong JSON type."""
    return InvalidRequest(
        f"Invalid type for '{name}': expected {expected}, but got {json_type(value)} instead.",
        param=name,
        code="invalid_type",
    )


def json_type(value: object) -> str:
    """Name a JSON value's type as OpenAI's messages do."""
    names: list[tuple[type, str]] = [
        (bool, "a boolean"),
        (int, "an integer"),
        (float, "a decimal number"),
        (str, "a string"),
        (list, "an array"),
        (dict, "an object"),
    ]
    return next((name for kind, name in names if isinstance(value, kind)), "null")


def _listed(options: Sequence[str], word: str) -> str:
    quoted = [f"'{option}'" for option in options]
    if len(quoted) < 3:  # noqa: PLR2004 - two are joined without a comma
        return f" {word} ".join(quoted)
    return f"{', '.join(quoted[:-1])}, {word} {quoted[-1]}"

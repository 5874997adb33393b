"""Values as people write them in a settings file, and what they become.

Lengths of time become integer milliseconds, sizes become bytes, money becomes micro-dollars.
Every ValueError here says what was expected and never repeats what was written: a key that was
pasted into the wrong line must not travel into a log.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, tzinfo
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    Strict,
    WithJsonSchema,
)

from gateway.domain.money import MAX_MICROUSD, MICROUSD_PER_USD, parse_microusd

_DURATION = re.compile(r"([0-9]{1,9})(ms|s|m|h|d)")
_MS_PER_UNIT = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}

_DAYS = re.compile(r"([0-9]{1,5})d")

#: Longer is a slip of the hand, and deadlines must stay exact in a Lua double.
_MAX_DURATION_MS = 366 * _MS_PER_UNIT["d"]

_SIZE = re.compile(r"([0-9]{1,9})(B|kB|MB|GB|KiB|MiB|GiB)")
_BYTES_PER_UNIT = {
    "B": 1,
    "kB": 1_000,
    "MB": 1_000_000,
    "GB": 1_000_000_000,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
}

#: 1e999999999 is a short text and a fraction of a gigabyte.
_MAX_DIGITS = 18

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")

#: Upper case only: a name may be shown in messages, and a pasted key hardly ever looks like this.
_ENVIRONMENT_NAME = re.compile(r"[A-Z_][A-Z0-9_]{0,127}")

_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


class Section(BaseModel):
    """A table of the settings file: read once, never changed, no unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


def parse_duration_ms(text: object) -> int:
    """Return the milliseconds in ``"500ms"``, ``"280s"``, ``"10m"``, ``"24h"`` or ``"7d"``.

    Raises ValueError for anything else, and above 366 days.
    """
    match = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError('expected a length of time such as "500ms", "280s", "10m", "24h" or "7d"')
    duration_ms = int(match[1]) * _MS_PER_UNIT[match[2]]
    if duration_ms > _MAX_DURATION_MS:
        raise ValueError('expected at most "366d"')
    return duration_ms


def parse_positive_duration_ms(text: object) -> int:
    """Return the milliseconds in a length of time; ValueError also for zero."""
    duration_ms = parse_duration_ms(text)
    if duration_ms == 0:
        raise ValueError("expected a length of time above zero")
    return duration_ms


def parse_keep_ms(text: object) -> int | None:
    """Return the milliseconds in a number of days such as ``"400d"``, None for empty text.

    Raises ValueError for anything else, and for less than a day: books are not for hours.
    """
    if text == "":
        return None
    match = _DAYS.fullmatch(text) if isinstance(text, str) else None
    if match is None or int(match[1]) == 0:
        raise ValueError('expected a number of days such as "400d", or "" to keep all')
    return int(match[1]) * _MS_PER_UNIT["d"]


def parse_prompt_keep_ms(text: object) -> int | None:
    """Return how long prompts are kept after a task's end, in ms: 0 for ``"until_done"``.

    None for ``"never"``: not even until then. ``"0s"`` is ``"until_done"``. Raises ValueError for
    what is no length of time.
    """
    if text in ("until_done", "never"):
        return 0 if text == "until_done" else None
    try:
        return parse_duration_ms(text)
    except ValueError as error:
        raise ValueError(f'{error}, or "until_done" or "never"') from None


def parse_size_bytes(text: object) -> int:
    """Return the bytes in ``"4MiB"`` or ``"10MB"``; ValueError for anything else, and for zero."""
    match = _SIZE.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError('expected a size such as "512KiB", "4MiB" or "10MB"')
    size_bytes = int(match[1]) * _BYTES_PER_UNIT[match[2]]
    if size_bytes == 0:
        raise ValueError("expected a size above zero")
    return size_bytes


def parse_usd(amount: object) -> int:
    """Return the micro-dollars in ``50``, ``0.10`` or ``"0.10"``; ValueError for anything else.

    A float is refused: TOML numbers arrive as Decimal, and money never was a float.
    """
    if not isinstance(amount, str | int | Decimal):
        raise ValueError("expected an amount in dollars, for example 0.10")  # noqa: TRY004 - pydantic reports ValueError
    return parse_microusd(amount)


def parse_exact(number: object) -> Fraction:
    """Return ``68``, ``0.0288`` or ``"0.0288"`` as a fraction, digit for digit.

    Raises ValueError for anything else, for floats, and for what is not above zero.
    """
    if isinstance(number, bool) or not isinstance(number, str | int | Decimal):
        raise ValueError("expected a number such as 68 or 67.5")  # noqa: TRY004 - pydantic reports ValueError
    try:
        exact = Decimal(number)
    except InvalidOperation:
        raise ValueError("expected a number such as 68 or 67.5") from None
    if not exact.is_finite() or exact <= 0 or abs(exact.adjusted()) > _MAX_DIGITS:
        raise ValueError("expected a number above zero, of ordinary size")
    return Fraction(exact)


def parse_share(written: object) -> Fraction:
    """Return ``0.8`` or ``"0.8"`` as a fraction; ValueError unless it is 1 to 100 whole percents.

    A float is refused: TOML numbers arrive as Decimal.
    """
    if isinstance(written, Fraction):
        share = written
    else:
        try:
            share = parse_exact(written)
        except ValueError:
            share = Fraction(0)
    if not 0 < share <= 1 or (share * 100).denominator != 1:
        raise ValueError("expected a part such as 0.8, in whole percents and at most 1.0")
    return share


def parse_ratio(written: object) -> float:
    """Return a number from 0 to 1 such as ``0.05``; ValueError for anything else."""
    if isinstance(written, bool) or not isinstance(written, int | float | Decimal):
        raise ValueError("expected a number from 0 to 1")  # noqa: TRY004 - pydantic reports ValueError
    ratio = float(written)
    if not 0 <= ratio <= 1:
        raise ValueError("expected a number from 0 to 1")
    return ratio


def check_name(name: str) -> str:
    """Return a name that is fit for store keys and metric labels; ValueError otherwise."""
    if _NAME.fullmatch(name) is None:
        raise ValueError(
            "expected a name of at most 63 lower-case letters, digits, - and _, "
            "beginning with a letter or digit"
        )
    return name


def check_optional_name(name: str) -> str:
    """Return a name as `check_name` does, or the empty text that stands for none."""
    return check_name(name) if name else name


def check_environment_name(name: str) -> str:
    """Return the name of an environment variable, or empty; ValueError otherwise."""
    if name and _ENVIRONMENT_NAME.fullmatch(name) is None:
        raise ValueError(
            "expected the name of an environment variable: upper-case letters, digits and _ "
            "(the name, not the key itself)"
        )
    return name


def check_sha256(digest: str) -> str:
    """Return 64 lower-case hexadecimal digits, or empty; ValueError otherwise."""
    if digest and _SHA256.fullmatch(digest) is None:
        raise ValueError(
            "expected 64 hexadecimal digits: the SHA-256 of the key, not the key itself"
        )
    return digest.lower()


def parse_timezone(name: object) -> tzinfo:
    """Return the time zone of an IANA name; ValueError for anything else."""
    if isinstance(name, tzinfo):
        return name
    if name == "UTC":
        # Known even where the machine has no time zone database.
        return UTC
    try:
        return ZoneInfo(name if isinstance(name, str) else "")
    except (LookupError, ValueError, OSError):
        raise ValueError('unknown time zone; expected a name such as "Europe/Berlin"') from None


def parse_moment_ms(written: object) -> int:
    """Return Unix milliseconds of a TOML date or date-time; without an offset it is UTC."""
    if isinstance(written, str):
        try:
            written = datetime.fromisoformat(written)
        except ValueError:
            raise ValueError("expected a date such as 2027-01-31") from None
    if isinstance(written, date) and not isinstance(written, datetime):
        written = datetime(written.year, written.month, written.day, tzinfo=UTC)
    if not isinstance(written, datetime):
        raise ValueError("expected a date such as 2027-01-31")  # noqa: TRY004 - pydantic wants it
    moment = written if written.tzinfo is not None else written.replace(tzinfo=UTC)
    return round(moment.timestamp()) * 1000


_MAX_USD = MAX_MICROUSD // MICROUSD_PER_USD

_DOLLARS = WithJsonSchema(
    {
        "anyOf": [
            {"type": "number", "minimum": 0, "maximum": _MAX_USD, "multipleOf": 0.000001},
            {"type": "string", "pattern": r"^[0-9]{1,10}(\.[0-9]{1,6})?$"},
        ],
        "description": "Dollars.",
    }
)
_LENGTH = WithJsonSchema({"type": "string", "pattern": r"^[0-9]{1,9}(ms|s|m|h|d)$"})

DurationMs = Annotated[int, BeforeValidator(parse_duration_ms), _LENGTH]
KeepMs = Annotated[
    int | None,
    BeforeValidator(parse_keep_ms),
    WithJsonSchema({"type": "string", "pattern": f"^({_DAYS.pattern})?$"}),
]
PromptKeepMs = Annotated[
    int | None,
    BeforeValidator(parse_prompt_keep_ms),
    WithJsonSchema({"type": "string", "pattern": "^(until_done|never|[0-9]{1,9}(ms|s|m|h|d))$"}),
]
PositiveDurationMs = Annotated[int, BeforeValidator(parse_positive_duration_ms), _LENGTH]
SizeBytes = Annotated[
    int,
    BeforeValidator(parse_size_bytes),
    WithJsonSchema({"type": "string", "pattern": f"^{_SIZE.pattern}$"}),
]
AmountMicrousd = Annotated[int, BeforeValidator(parse_usd), _DOLLARS]
Share = Annotated[
    Fraction,
    BeforeValidator(parse_share),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0.01, "maximum": 1, "multipleOf": 0.01},
                {"type": "string", "pattern": r"^(0\.[0-9]{1,2}|1)$"},
            ]
        }
    ),
]
Ratio = Annotated[
    float,
    BeforeValidator(parse_ratio),
    WithJsonSchema({"type": "number", "minimum": 0, "maximum": 1}),
]
Exact = Annotated[Fraction, BeforeValidator(parse_exact)]
Count = Annotated[int, Strict(), Field(ge=1)]
OptionalCount = Annotated[int, Strict(), Field(ge=0, le=1_000_000_000)]
OptionalAmountMicrousd = Annotated[int | None, BeforeValidator(parse_usd), _DOLLARS]
OptionalMomentMs = Annotated[int | None, BeforeValidator(parse_moment_ms)]
Name = Annotated[
    str,
    AfterValidator(check_name),
    WithJsonSchema({"type": "string", "pattern": f"^{_NAME.pattern}$"}),
]
OptionalName = Annotated[
    str,
    AfterValidator(check_optional_name),
    WithJsonSchema({"type": "string", "pattern": f"^({_NAME.pattern})?$"}),
]
EnvironmentName = Annotated[str, AfterValidator(check_environment_name)]
Sha256 = Annotated[str, AfterValidator(check_sha256)]
TimeZone = Annotated[
    tzinfo,
    PlainValidator(parse_timezone),
    WithJsonSchema({"type": "string", "description": "An IANA name such as Europe/Berlin."}),
]

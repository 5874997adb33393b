from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, tzinfo
from decimal import Decimal
from fractions import Fraction
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError

from gateway.config.values import (
    Section,
    check_environment_name,
    check_name,
    check_optional_name,
    check_sha256,
    parse_duration_ms,
    parse_exact,
    parse_keep_ms,
    parse_positive_duration_ms,
    parse_ratio,
    parse_share,
    parse_size_bytes,
    parse_timezone,
    parse_usd,
)


@pytest.mark.parametrize(
    ("text", "expected_ms"),
    [
        ("500ms", 500),
        ("280s", 280_000),
        ("10m", 600_000),
        ("24h", 86_400_000),
        ("7d", 604_800_000),
        ("366d", 31_622_400_000),
        ("0s", 0),
    ],
)
def test_durations_are_milliseconds(text: str, expected_ms: int) -> None:
    """A length of time is a whole number and a unit."""
    assert expected_ms == parse_duration_ms(text)


@pytest.mark.parametrize(
    "text", ["", "280", "s", "1.5s", "-1s", "1 s", "1S", "1w", "1m30s", "367d", "1s\n", "٣s", 280]
)
def test_other_durations_are_refused(text: object) -> None:
    """A number without a unit is refused: nobody can know what it means."""
    with pytest.raises(ValueError, match=r"^expected "):
        parse_duration_ms(text)


def test_a_timeout_of_zero_is_refused() -> None:
    """Zero is no limit of time for something that has to happen."""
    with pytest.raises(ValueError, match="above zero"):
        parse_positive_duration_ms("0ms")

    assert parse_positive_duration_ms("1ms") == 1


@pytest.mark.parametrize(
    ("text", "expected_bytes"),
    [
        ("1B", 1),
        ("3kB", 3_000),
        ("10MB", 10_000_000),
        ("2GB", 2_000_000_000),
        ("512KiB", 524_288),
        ("4MiB", 4_194_304),
        ("1GiB", 1_073_741_824),
    ],
)
def test_sizes_are_bytes(text: str, expected_bytes: int) -> None:
    """kB, MB and GB count in thousands; KiB, MiB and GiB in 1024s."""
    assert expected_bytes == parse_size_bytes(text)


@pytest.mark.parametrize("text", ["", "4", "4M", "4mb", "1.5MiB", "-1MB", "0MiB", 4096])
def test_other_sizes_are_refused(text: object) -> None:
    """A size without a unit, or of nothing, is refused."""
    with pytest.raises(ValueError, match=r"^expected a size"):
        parse_size_bytes(text)


@pytest.mark.parametrize(
    ("amount", "expected_microusd"),
    [(50, 50_000_000), (Decimal("0.1"), 100_000), ("0.000001", 1), (0, 0)],
)
def test_money_is_micro_dollars(amount: object, expected_microusd: int) -> None:
    """Dollars arrive as TOML integers, decimals or text."""
    assert expected_microusd == parse_usd(amount)


@pytest.mark.parametrize("amount", [0.1, True, None, [], "ten", "-1", "0.0000001", Decimal("NaN")])
def test_other_money_is_refused(amount: object) -> None:
    """Floats, truth values, negative amounts and fractions of a micro-dollar are refused."""
    with pytest.raises(ValueError, match=r"^expected "):
        parse_usd(amount)


@pytest.mark.parametrize(
    ("number", "expected"),
    [(68, Fraction(68)), (Decimal("67.5"), Fraction(135, 2)), ("0.0288", Fraction(288, 10_000))],
)
def test_exact_numbers_keep_every_digit(number: object, expected: Fraction) -> None:
    """Rates and prices become the fraction that was written."""
    assert expected == parse_exact(number)


@pytest.mark.parametrize(
    "number", [68.0, True, 0, "-1", "x", "inf", "NaN", None, "1e999999999", "1e-999999999"]
)
def test_other_exact_numbers_are_refused(number: object) -> None:
    """Floats, nothing, infinity and exponents that would fill the memory are refused."""
    with pytest.raises(ValueError, match=r"^expected a number"):
        parse_exact(number)


@pytest.mark.parametrize("name", ["a", "design", "9lives", "team_a-b", "x" * 63])
def test_names_fit_store_keys_and_labels(name: str) -> None:
    """Lower-case letters, digits, - and _ make a name."""
    assert name == check_name(name)


@pytest.mark.parametrize(
    "name", ["", "Design", "_a", "-a", "a b", "a}", "{a", "a:b", "é", "a\n", "x" * 64]
)
def test_other_names_are_refused(name: str) -> None:
    """Braces and colons would break the store's hash tags, the rest is hard to type."""
    with pytest.raises(ValueError, match="at most 63 lower-case letters"):
        check_name(name)


def test_an_optional_name_may_be_empty() -> None:
    """Empty stands for none; anything else obeys the rule for names."""
    assert check_optional_name("") == ""
    with pytest.raises(ValueError, match="lower-case"):
        check_optional_name("Night Shift")


@pytest.mark.parametrize("name", ["", "EVOLINK_API_KEY", "_X1"])
def test_environment_names_are_upper_case(name: str) -> None:
    """The name of a variable, or nothing."""
    assert name == check_environment_name(name)


@pytest.mark.parametrize("name", ["sk-evo-4f7a9c", "abcdef0123456789", "1A", "A B", "A=B"])
def test_what_may_be_a_pasted_key_is_no_environment_name(name: str) -> None:
    """A key that was pasted for its variable's name is refused and not repeated."""
    with pytest.raises(ValueError, match="not the key itself") as refusal:
        check_environment_name(name)

    assert name not in str(refusal.value)


def test_digests_are_lower_case() -> None:
    """A digest compares equal however it was written."""
    assert check_sha256("AB" * 32) == "ab" * 32
    assert check_sha256("") == ""


@pytest.mark.parametrize("digest", ["ab" * 31, "zz" * 32, "my-very-secret-key"])
def test_a_key_in_place_of_its_digest_is_not_repeated(digest: str) -> None:
    """What is no digest may be the key."""
    with pytest.raises(ValueError, match="not the key itself") as refusal:
        check_sha256(digest)

    assert digest not in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("UTC", UTC), ("Asia/Seoul", ZoneInfo("Asia/Seoul")), (UTC, UTC)],
)
def test_time_zones_go_by_their_iana_name(name: object, expected: tzinfo) -> None:
    """A zone is looked up; one that is already a zone stays itself."""
    assert expected is parse_timezone(name)


@pytest.mark.parametrize("name", ["", "Asia", "Mars/Olympus", "../etc/passwd", "/etc/passwd", 9])
def test_unknown_time_zones_are_refused(name: object) -> None:
    """Folders and paths of the time zone database are no zones."""
    with pytest.raises(ValueError, match="unknown time zone"):
        parse_timezone(name)


@pytest.mark.parametrize(
    "spoil", [lambda section: setattr(section, "size", 2), lambda section: type(section)(sise=1)]
)
def test_sections_are_frozen_and_know_their_names(spoil: Callable[[Section], object]) -> None:
    """A section takes no unknown name, and none of its values changes later."""

    class Shelf(Section):
        size: int = 1

    with pytest.raises(ValidationError):
        spoil(Shelf())


def test_a_section_does_not_repeat_what_was_written() -> None:
    """Pydantic's own message would quote the value, which may be a secret."""

    class Shelf(Section):
        size: int = 1

    with pytest.raises(ValidationError) as refusal:
        Shelf.model_validate({"size": "sk-evo-secret"})

    assert "sk-evo" not in str(refusal.value)


@pytest.mark.parametrize(
    ("written", "percent"), [(Decimal("0.5"), 50), ("0.07", 7), (1, 100), (Fraction(4, 5), 80)]
)
def test_shares_are_exact(written: object, percent: int) -> None:
    """As TOML, JSON and the store have them."""
    assert Fraction(percent, 100) == parse_share(written)


@pytest.mark.parametrize("written", [0, "0", "-0.5", "1.01", "0.005", 0.5, True, "half", None, 80])
def test_other_shares_are_refused(written: object) -> None:
    """A budget has no more than all of itself, and a percent is the smallest part."""
    with pytest.raises(ValueError, match=r"^expected a part such as 0\.8"):
        parse_share(written)


@pytest.mark.parametrize(("text", "expected_ms"), [("", None), ("400d", 34_560_000_000)])
def test_books_are_kept_for_days(text: str, expected_ms: int | None) -> None:
    """Or for ever."""
    assert expected_ms == parse_keep_ms(text)


@pytest.mark.parametrize("text", ["0d", "24h", "400", "1.5d", "-1d", 400])
def test_books_are_not_kept_for_hours(text: object) -> None:
    """A slip of the unit would trim what somebody still needs."""
    with pytest.raises(ValueError, match=r"^expected a number of days"):
        parse_keep_ms(text)


@pytest.mark.parametrize("written", [0, 1, Decimal("0.005"), 0.5])
def test_a_ratio(written: Decimal | float) -> None:
    """Any part of the whole, none and all of it too."""
    assert float(written) == parse_ratio(written)


@pytest.mark.parametrize("written", [-0.1, Decimal("1.01"), "0.5", True, None, Decimal("NaN")])
def test_what_is_no_ratio(written: object) -> None:
    """What is written is not repeated."""
    with pytest.raises(ValueError, match=r"^expected a number from 0 to 1$"):
        parse_ratio(written)

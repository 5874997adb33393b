"""Price books as text, for whoever settles a task that another process has quoted.

The text is named by its digest: a book that is found by its name is the one that was meant, whoever
wrote it. Fractions stay exact, and the same prices are the same text in every process.

A release that adds something to price books writes it only where it is in use, so that all others
keep their text; one that does not know it refuses the book (`parse_book`), for prices that are
understood in part are other prices.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction

from gateway.domain.pricing import (
    AreaFormula,
    Billing,
    CallBilling,
    CallTier,
    FlatTokens,
    OutputTokens,
    PictureBilling,
    PriceBook,
    TokenBilling,
    TokenPrices,
    TokenTable,
)


class UnreadableBookError(Exception):
    """A text is no price book, or one of which this release does not understand everything."""


@dataclass(frozen=True, slots=True)
class WrittenBook:
    """A price book as it is written down; `digest` is the name by which tasks remember it."""

    digest: str
    text: str


#: That of an offer or a call whose prices nobody writes down.
NOT_WRITTEN = WrittenBook("", "")


def written(book: PriceBook) -> WrittenBook:
    """Return a book as it is written down."""
    said = {
        "billing": _billing_said(book.billing),
        "credits_per_usd": str(book.credits_per_usd),
        "source": book.source,
        "date": book.date,
    }
    text = json.dumps(said, sort_keys=True, separators=(",", ":"))
    return WrittenBook(hashlib.sha256(text.encode()).hexdigest()[:16], text)


def parse_book(known: WrittenBook) -> PriceBook:
    """Return the book of a text.

    Raises UnreadableBookError, also where the text says more than is understood here, and where it
    is not the one of its name.
    """
    try:
        said = json.loads(known.text)
        book = PriceBook(
            billing=_parse_billing(said["billing"]),
            credits_per_usd=Fraction(said["credits_per_usd"]),
            source=said["source"],
            date=said["date"],
        )
        again = written(book)
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise UnreadableBookError(type(error).__name__) from error
    if again != known:
        raise UnreadableBookError("it is not understood as a whole")
    return book


def _billing_said(billing: Billing) -> dict[str, object]:
    match billing:
        case TokenBilling():
            prices = asdict(billing.prices)
            return {
                "form": "tokens",
                "prices": {category: str(price) for category, price in prices.items()},
                "output": _output_said(billing.output),
                "reference_tokens": billing.reference_tokens,
                "thinking_tokens": billing.thinking_tokens,
            }
        case CallBilling():
            return {
                "form": "call",
                "tiers": [[tier.max_pixels, str(tier.price)] for tier in billing.tiers],
                "reference": str(billing.reference),
            }
        case PictureBilling():
            rows = sorted((*which, str(price)) for which, price in billing.rows.items())
            return {"form": "picture", "rows": rows, "reference": str(billing.reference)}
    raise TypeError(f"{type(billing).__name__} has no form in writing")


def _output_said(output: OutputTokens) -> dict[str, object]:
    match output:
        case TokenTable():
            return {
                "form": "table",
                "rows": sorted((*which, tokens) for which, tokens in output.rows.items()),
            }
        case FlatTokens():
            return {"form": "flat", "each": output.each}
        case AreaFormula():
            return {"form": "area", "bases": dict(output.bases)}
    raise TypeError(f"{type(output).__name__} has no form in writing")


def _parse_billing(said: Mapping[str, object]) -> Billing:
    match said:
        case {"form": "tokens", "prices": dict(prices), "output": dict(output)}:
            return TokenBilling(
                prices=TokenPrices(**{name: Fraction(price) for name, price in prices.items()}),
                output=_parse_output(output),
                reference_tokens=_count(said["reference_tokens"]),
                thinking_tokens=_count(said["thinking_tokens"]),
            )
        case {"form": "call", "tiers": list(tiers), "reference": str(reference)}:
            return CallBilling(
                tuple(CallTier(max_pixels, Fraction(price)) for max_pixels, price in tiers),
                Fraction(reference),
            )
        case {"form": "picture", "rows": list(rows), "reference": str(reference)}:
            return PictureBilling(
                {(quality, size): Fraction(price) for quality, size, price in rows},
                Fraction(reference),
            )
    raise ValueError("no form of billing that is known here")


def _parse_output(said: Mapping[str, object]) -> OutputTokens:
    match said:
        case {"form": "table", "rows": list(rows)}:
            return TokenTable({(quality, size): _count(n) for quality, size, n in rows})
        case {"form": "flat", "each": int(each)}:
            return FlatTokens(each)
        case {"form": "area", "bases": dict(bases)}:
            return AreaFormula({quality: _count(base) for quality, base in bases.items()})
    raise ValueError("no count of tokens that is known here")


def _count(said: object) -> int:
    if not isinstance(said, int):
        raise TypeError("tokens are counted in integers")
    return said

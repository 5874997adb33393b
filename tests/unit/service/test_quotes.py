from __future__ import annotations

from dataclasses import replace
from typing import cast

import pytest

from gateway.domain.accounts import Caller
from gateway.domain.catalog import Catalog
from gateway.domain.errors import BudgetState, InvalidRequest
from gateway.domain.images import ImageRequest, Operation, Picture, Size
from gateway.service.images import ImageService
from gateway.service.quotes import QuoteService, quote_call
from gateway.tasks.engine import Engine
from tests.support.factories import (
    a_budget,
    a_budget_state,
    a_caller,
    a_model,
    a_team,
    an_offer,
    an_unpriced_book,
)

SQUARE = Picture(Operation.GENERATION, "a small red fox", Size(1024, 1024), "low")


class Books:
    """A ledger that notes who was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[Caller, str]] = []

    async def balances(self, caller: Caller, user: str = "") -> tuple[BudgetState, ...]:
        """Return one budget."""
        self.asked.append((caller, user))
        return (a_budget_state(spent_microusd=7_852),)


def _service(books: Books) -> QuoteService:
    images = ImageService(
        catalog=Catalog({"gpt-image-1.5": a_model()}),
        providers={},
        engine=cast("Engine", None),
        wait_s=1.0,
        random_bytes=bytes,
    )
    return QuoteService(images=images, ledger=books)


def test_a_quote_names_hold_list_price_and_who_was_asked() -> None:
    """The hold is the bytes of the prompt above the list price; amounts are told twice."""
    told = quote_call(a_model(), SQUARE).described()

    assert {"usd": "0.007902", "microusd": 7_902} == told["hold"]
    assert {"usd": "0.007834", "microusd": 7_834} == told["list_price"]
    assert {"text_input": 15, "image_output": 272} == told["tokens"]
    assert ("1024x1024", "low", "evolink") == (told["size"], told["quality"], told["provider"])
    [offer] = cast("list[dict[str, object]]", told["offers"])
    assert (True, "protocols/evolink.md §12") == (offer["chosen"], offer["source"])
    assert "budgets" not in told


def test_several_pictures_cost_several_times() -> None:
    """Every amount of a quote is that of the whole call."""
    one, three = (quote_call(a_model(), SQUARE, n=n) for n in (1, 3))

    assert 3 * one.hold_microusd == three.hold_microusd
    assert (7_834, 23_501) == (one.listed_microusd, three.listed_microusd)


def test_the_cheapest_offer_is_chosen_and_all_are_told() -> None:
    """Whoever asks for more is told, and not taken."""
    dear = an_offer(provider="dear", book=replace(an_offer().book, source="a list"))
    model = a_model(offers=(an_offer(provider="none", book=an_unpriced_book()), dear))
    told = quote_call(model, SQUARE).described()

    offers = cast("list[dict[str, object]]", told["offers"])
    assert [("none", False, None), ("dear", True, {"usd": "0.007902", "microusd": 7_902})] == [
        (offer["provider"], offer["chosen"], offer["hold"]) for offer in offers
    ]


def test_a_picture_without_a_price_is_refused_or_held_as_configured() -> None:
    """Never free: a code of its own, or the amount that the settings name."""
    offers = (an_offer(book=an_unpriced_book()),)
    with pytest.raises(InvalidRequest) as refusal:
        quote_call(a_model(offers=offers), SQUARE)
    held = quote_call(a_model(offers=offers, unpriced_hold_microusd=500_000), SQUARE)

    assert "unpriced" == refusal.value.code
    assert (500_000, None) == (held.hold_microusd, held.listed_microusd)


async def test_a_teams_quote_shows_its_budgets() -> None:
    """What is left is read from the books; a user is known by a hash, where users have budgets."""
    books = Books()
    team = replace(a_team(), user_budgets=(a_budget(),))
    request = ImageRequest("gpt-image-1.5", "a small red fox", quality="low", user="alice")
    quoted = await _service(books).quote(a_caller(team), request)
    await _service(books).quote(a_caller(), request)

    assert (a_budget_state(spent_microusd=7_852),) == quoted.budgets
    [budget] = cast("list[dict[str, object]]", quoted.described()["budgets"])
    assert "day" == budget["name"]
    (_, user), (_, nobody) = books.asked
    assert 16 == len(user)
    assert "" == nobody

from __future__ import annotations

from dataclasses import replace
from typing import cast

import pytest

from gateway.domain.accounts import Caller
from gateway.domain.errors import BudgetState, InvalidRequest
from gateway.domain.images import ImageRequest, Operation, Picture, Size
from gateway.ledger.holds import user_hash
from gateway.service.quotes import QuoteService, quote_call
from tests.support.factories import (
    a_budget,
    a_budget_state,
    a_caller,
    a_catalog_service,
    a_model,
    a_team,
    an_offer,
    an_unpriced_book,
)

REQUEST = ImageRequest("gpt-image-1.5", "a small red fox", quality="low")
SQUARE = Picture(Operation.GENERATION, "a small red fox", Size(1024, 1024), "low")


class Books:
    """A ledger that notes who was asked for."""

    def __init__(self, *states: BudgetState) -> None:
        self.states = states
        self.asked: list[tuple[Caller, str]] = []

    async def balances(self, caller: Caller, user: str = "") -> tuple[BudgetState, ...]:
        """Return the budgets it was made with."""
        self.asked.append((caller, user))
        return self.states


def _service(books: Books) -> QuoteService:
    images = a_catalog_service(a_model())
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
    """Every amount of a quote is that of the whole call; what is exact is rounded once."""
    told = quote_call(a_model(), SQUARE, n=3).described()

    hold, listed = {"usd": "0.023706", "microusd": 23_706}, {"usd": "0.023501", "microusd": 23_501}
    assert (3, hold, listed) == (told["n"], told["hold"], told["list_price"])
    assert told["price"] == {
        "text_input": {"usd": "0.000204", "microusd": 204},
        "image_output": {"usd": "0.023502", "microusd": 23_502},
    }
    assert {"text_input": 45, "image_output": 816} == told["tokens"]
    [offer] = cast("list[dict[str, object]]", told["offers"])
    assert (hold, listed) == (offer["hold"], offer["list_price"])


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
    assert ("configured", {}) == (held.described()["basis"], held.described()["tokens"])


async def test_a_teams_quote_shows_its_budgets() -> None:
    """What is left is read from the books, and when it begins anew."""
    state = a_budget_state(
        spent_microusd=7_852, held_microusd=10_206, resets_at_ms=1_780_012_800_999
    )
    quoted = await _service(Books(state)).quote(a_caller(), REQUEST)

    assert [
        {
            "scope": "team",
            "name": "day",
            "per": "day",
            "limit": {"usd": "50.00", "microusd": 50_000_000},
            "topped_up": {"usd": "0.00", "microusd": 0},
            "spent": {"usd": "0.007852", "microusd": 7_852},
            "held": {"usd": "0.010206", "microusd": 10_206},
            "remaining": {"usd": "49.981942", "microusd": 49_981_942},
            "resets_at": "2026-05-29T00:00:00Z",
        }
    ] == quoted.described()["budgets"]


async def test_a_total_never_resets() -> None:
    """A budget without an end has no time at which it begins anew."""
    quoted = await _service(Books(a_budget_state())).quote(a_caller(), REQUEST)
    [budget] = cast("list[dict[str, object]]", quoted.described()["budgets"])

    assert budget["resets_at"] is None


async def test_a_call_is_priced_as_it_is_asked_for() -> None:
    """The team's defaults stand in for `auto`, and `n` multiplies."""
    caller = a_caller(a_team(default_size="1024x1536"))
    quoted = await _service(Books()).quote(caller, replace(REQUEST, n=2))

    assert ("1024x1536", "low", 2) == (
        *(str(quoted.picture.size), quoted.picture.quality),
        quoted.n,
    )


@pytest.mark.parametrize(
    ("named", "users"),
    [
        ({}, ""),
        ({"user": "alice"}, "alice"),
        ({"safety_identifier": "bob"}, "bob"),
        ({"user": "alice", "safety_identifier": "bob"}, "bob"),
    ],
)
async def test_end_users_have_budgets_of_their_own(named: dict[str, str], users: str) -> None:
    """An end user is asked for by a hash, where the team gives its users budgets."""
    books = Books()
    team = replace(a_team(), user_budgets=(a_budget(),))
    request = replace(REQUEST, **named)
    await _service(books).quote(a_caller(team), request)
    await _service(books).quote(a_caller(), request)

    expected = user_hash(team.id, users) if users else ""
    assert [(a_caller(team), expected), (a_caller(), "")] == books.asked

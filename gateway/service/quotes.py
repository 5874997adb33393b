"""What a call would cost, without making it: nothing is held, and no upstream is asked."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from fractions import Fraction

from gateway.domain.accounts import Caller
from gateway.domain.catalog import Bid, Model, Offer, unmade
from gateway.domain.errors import BudgetState
from gateway.domain.images import ImageRequest, Picture
from gateway.domain.money import round_half_up_microusd
from gateway.domain.pricing import Quote
from gateway.ledger.interface import Ledger
from gateway.service.amounts import budget_fields, optional_amount
from gateway.service.images import ImageService, end_user_of


@dataclass(frozen=True, slots=True)
class CallQuote:
    """What `n` pictures of a kind would cost, and who was asked.

    `offer` would make them for `quote` each; `bids` are of one picture. `budgets` are those that
    the call would count against, None where nobody is known to pay.
    """

    model: str
    picture: Picture
    n: int
    offer: Offer
    quote: Quote
    bids: tuple[Bid, ...]
    budgets: tuple[BudgetState, ...] | None = None

    @property
    def hold_microusd(self) -> int:
        """What would be held for the whole call, in micro-dollars."""
        return self.quote.total_microusd * self.n

    @property
    def listed_microusd(self) -> int | None:
        """The published price of the whole call, rounded half up; None where there is none."""
        chosen = next(bid for bid in self.bids if bid.offer is self.offer)
        return _rounded(chosen.listed, self.n)

    def described(self) -> dict[str, object]:
        """Return the quote as JSON: every amount both as dollars in text and as micro-dollars."""
        described: dict[str, object] = {
            "object": "image.quote",
            "model": self.model,
            "operation": self.picture.operation.value,
            "size": str(self.picture.size),
            "quality": self.picture.quality,
            "references": self.picture.references,
            "n": self.n,
            "provider": self.offer.provider,
            "basis": self.quote.basis.value,
            "hold": optional_amount(self.hold_microusd),
            "list_price": optional_amount(self.listed_microusd),
            "price": {
                category: optional_amount(microusd * self.n)
                for category, microusd in self.quote.by_category.items()
            },
            "tokens": self.tokens(),
            "offers": [self._bid(bid) for bid in self.bids],
        }
        if self.budgets is not None:
            described["budgets"] = [budget_fields(state) for state in self.budgets]
        return described

    def tokens(self) -> dict[str, int]:
        """Return the tokens that the hold covers, by category; none where they do not count."""
        usage = {} if self.quote.usage is None else asdict(self.quote.usage)
        return {category: tokens * self.n for category, tokens in usage.items() if tokens}

    def _bid(self, bid: Bid) -> dict[str, object]:
        book = bid.offer.book
        return {
            "provider": bid.offer.provider,
            "upstream_model": bid.offer.upstream_model,
            "channel": bid.offer.channel.value,
            "chosen": bid.offer is self.offer,
            "hold": optional_amount(
                None if bid.quote is None else bid.quote.total_microusd * self.n
            ),
            "list_price": optional_amount(_rounded(bid.listed, self.n)),
            "source": book.source,
            "date": book.date,
        }


def quote_call(model: Model, picture: Picture, *, n: int = 1) -> CallQuote:
    """Price `n` of this picture, for nobody in particular.

    Raises InvalidRequest (`unpriced`) when nobody makes it at a known price.
    """
    best = model.best(picture)
    if best is None:
        raise unmade(model, picture)
    offer, price = best
    return CallQuote(model.name, picture, n, offer, price, model.bids(picture))


class QuoteService:
    """Prices calls for teams."""

    def __init__(self, *, images: ImageService, ledger: Ledger) -> None:
        self._images = images
        self._ledger = ledger

    async def quote(self, caller: Caller, request: ImageRequest) -> CallQuote:
        """Price this call as it would be made now, and read the budgets it would count against.

        Raises what planning it raises, and StoreUnavailable.
        """
        plan = self._images.plan(caller, request)
        return CallQuote(
            model=plan.model.name,
            picture=plan.picture,
            n=request.n,
            offer=plan.offer,
            quote=plan.quote,
            bids=plan.model.bids(plan.picture),
            budgets=await self._ledger.balances(caller, end_user_of(caller, request)),
        )


def _rounded(exact: Fraction | None, n: int) -> int | None:
    return None if exact is None else round_half_up_microusd(exact * n)

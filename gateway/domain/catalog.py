"""Models and the offers behind them, as data."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.domain.images import Operation, Size
from gateway.domain.pricing import PriceBook


@dataclass(frozen=True, slots=True)
class Offer:
    """One upstream's way to make a picture: what it can do and what it costs.

    `prompt_max_chars` is None where no limit is known.
    """

    provider: str
    upstream_model: str
    operation: Operation
    sizes: tuple[Size, ...]
    qualities: tuple[str, ...]
    prompt_max_chars: int | None
    book: PriceBook


@dataclass(frozen=True, slots=True)
class Model:
    """A name that clients ask for.

    `created_s` is Unix seconds as `/v1/models` shows it; `shutdown_date` is YYYY-MM-DD or None.
    """

    name: str
    created_s: int
    owned_by: str
    shutdown_date: str | None
    default_size: Size
    default_quality: str
    offers: tuple[Offer, ...]

    def offers_for(self, operation: Operation) -> tuple[Offer, ...]:
        """Return the offers that do this operation, in the order they are tried."""
        return tuple(offer for offer in self.offers if offer.operation is operation)


@dataclass(frozen=True, slots=True)
class Catalog:
    """All models by name."""

    models: dict[str, Model]

    def get(self, name: str) -> Model | None:
        """Return the model of that name, or None."""
        return self.models.get(name)

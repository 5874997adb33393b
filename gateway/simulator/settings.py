"""What a simulator can be told before it starts."""

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum


class Shape(StrEnum):
    """Form of a completed task's body; sources disagree, so clients must read all of them."""

    LIVE = "live"
    """As recorded live, with tokens and ``credits_used`` (protocols/evolink.md §4.2)."""
    DOCS = "docs"
    """The documented minimum, without any usage (§4.3)."""
    COST = "cost"
    """Live plus ``usage.cost`` as the first-party client types it (§4.4)."""
    OBJECTS = "objects"
    """Live, but ``results`` holds ``{"url"}`` objects, as one implementation accepts (§4.4)."""


class Envelope(StrEnum):
    """Form of an error body (protocols/evolink.md §9.1)."""

    STRING = "string"
    """Today's documents: ``error.code`` is a word."""
    INTEGER = "integer"
    """Older documents: ``error.code`` repeats the HTTP status."""


@dataclass(frozen=True, slots=True)
class SimulatorSettings:
    """Set up one simulated EvoLink account; raise ``ValueError`` for impossible values."""

    latency_median_s: float = 8.0
    """Median of the lognormal render time; 0 finishes every render at once."""
    latency_sigma: float = 0.5
    """Sigma of the lognormal: 0 makes every render take exactly the median."""
    seed: int | None = None
    """Makes ids, latencies and pictures repeat; ``None`` draws them from the system."""
    credits_balance: Decimal = Decimal(100_000)
    """Credits of the account at the start and after a reset."""
    public_url: str = ""
    """Base of result links; empty takes scheme and host from the request."""
    shape: Shape = Shape.LIVE
    """Completed bodies, where the prompt does not choose."""
    envelope: Envelope = Envelope.STRING
    """Error bodies, where the prompt does not choose."""
    retry_after_s: int = 2
    """``Retry-After`` of a refused submit with status 429."""
    keep_s: float = 86_400.0
    """How long a finished task and its result links live (24 h, protocols/evolink.md §11)."""

    def __post_init__(self) -> None:
        for name in ("latency_median_s", "latency_sigma", "credits_balance", "keep_s"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative")

"""What a simulator can be told before it starts."""

from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum

from gateway.simulator.latency import Profile


class Shape(StrEnum):
    """Form of a task's body; sources disagree, so clients must read all of them."""

    LIVE = "live"
    """As recorded live, with tokens and ``credits_used`` (protocols/evolink.md §4.2)."""
    DOCS = "docs"
    """The documented minimum, without any usage (§4.3)."""
    COST = "cost"
    """Live plus ``usage.cost`` as the first-party client types it (§4.4)."""
    OBJECTS = "objects"
    """Live, but ``results`` holds ``{"url"}`` objects, as one implementation accepts (§4.4)."""
    DATA_OBJECT = "data-object"
    """Live, but ``result_data`` is one object instead of an array (§4.4)."""
    DATA_ONLY = "data-only"
    """Live, but the links are in ``result_data`` alone, as an older client reads them (§4.4)."""
    IMAGE_URLS = "image-urls"
    """Live, but ``result_data`` holds ``{"image_url", …}``, the client's type (§4.4)."""
    MOCK = "mock"
    """As the first-party mocks: ``object`` is ``task`` and ``usage`` only has ``cost`` (§14)."""
    CACHED = "cached"
    """Live, with some input tokens told as cached too; the charge stays the same (§18.1)."""
    BARE = "bare"
    """``id``, ``status`` and ``results``, and not a field more (§18.17)."""
    NULLS = "nulls"
    """Live, but every field beside those three is null (§18.17)."""
    EXTRA = "extra"
    """Live, with fields that no document knows (§18.17)."""
    QUICKSTART = "quickstart"
    """As the quickstart of 2025: thousandfold ``credits_reserved``, ``estimated_cost`` (§14)."""


class Envelope(StrEnum):
    """Form of an error body (protocols/evolink.md §9.1)."""

    STRING = "string"
    """Today's documents: ``error.code`` is a word."""
    INTEGER = "integer"
    """Older documents: ``error.code`` repeats the HTTP status."""
    UPPER = "upper"
    """Today's, with the code in upper case."""
    RICH = "rich"
    """As the newest client knows it: a request id in the text, and balances on a 402."""
    PASSTHROUGH = "passthrough"
    """An upstream's own: integer code, empty ``type`` and ``param``."""
    MESSAGE = "message"
    """``{"message"}`` alone."""
    OAUTH = "oauth"
    """``{"error", "error_description"}``."""
    FILES = "files"
    """``{"success": false, "code", "msg"}``, the form of the file service."""


class RetryAfter(StrEnum):
    """Form of the ``Retry-After`` header (protocols/evolink.md §10)."""

    SECONDS = "seconds"
    DATE = "date"
    NONE = "none"


class Idempotency(StrEnum):
    """What an ``Idempotency-Key`` does; whether EvoLink's works is unknown (§13, §18.9)."""

    IGNORED = "ignored"
    """Nothing: a repeated submit is a second task. Finds clients that rely on it."""
    REPLAYED = "replayed"
    """The first task again, 409 for another body and for an earlier submit still open."""


class References(StrEnum):
    """When reference images are fetched and checked (§18.5)."""

    TASK = "task"
    """After the submit was answered: a bad one fails the task."""
    SUBMIT = "submit"
    """Before the submit is answered: a bad one is 400."""
    IGNORED = "ignored"
    """Never; links are only counted."""


class FilesErrors(StrEnum):
    """How the file service says no; both were seen (§7)."""

    STATUS = "status"
    """With a fitting HTTP status."""
    OK = "ok"
    """With HTTP 200 and ``success: false``."""


_EXPIRED = {
    "expired_status": frozenset({404, 410}),
    "expired_result_status": frozenset({403, 404, 410}),
}


@dataclass(frozen=True, slots=True)
class SimulatorSettings:
    """Set up one simulated EvoLink account; raise ``ValueError`` for impossible values."""

    latency_median_s: float = 8.0
    """Median of the lognormal render time; 0 finishes every render at once."""
    latency_sigma: float = 0.5
    """Sigma of the lognormal: 0 makes every render take exactly the median."""
    latency_profile: Profile = field(default_factory=Profile)
    """What becomes of the lognormal draw: nothing, two humps, or a slow drift."""
    seed: int | None = None
    """Makes ids, latencies and pictures repeat; ``None`` draws them from the system."""
    credits_balance: Decimal = Decimal(100_000)
    """Credits of the account at the start and after a reset."""
    credits_per_usd: int = 68
    """Credits for one dollar: 68 today, 72 in an older list (protocols/evolink.md §12)."""
    public_url: str = ""
    """Base of result and file links; empty takes scheme and host from the request."""
    shape: Shape = Shape.LIVE
    """Task bodies, where the prompt does not choose."""
    envelope: Envelope = Envelope.STRING
    """Error bodies, where the prompt does not choose."""
    retry_after: RetryAfter = RetryAfter.SECONDS
    """Form of ``Retry-After`` on a 429, where the prompt does not choose."""
    retry_after_s: int = 2
    """``Retry-After`` of a refused call with status 429."""
    keep_s: float = 86_400.0
    """How long a finished task can be read; its true length is unknown (§18.8)."""
    result_keep_s: float = 86_400.0
    """How long result links live after completion (24 h, §11); never longer than the task."""
    expired_status: int = 404
    """HTTP status of a task that has expired: 404 or 410 (§4.7)."""
    expired_result_status: int = 404
    """HTTP status of an expired result link: 403, 404 or 410; the true one is unknown (§17.3)."""
    idempotency: Idempotency = Idempotency.IGNORED
    """What a repeated ``Idempotency-Key`` does, where the prompt does not choose."""
    plain_pictures: bool = False
    """Answer every link with a grey picture of the right size, which costs nothing to draw."""
    references: References = References.TASK
    """When references are checked, where the prompt does not choose."""
    strict_callbacks: bool = False
    """Refuse callback targets that EvoLink refuses: without TLS, or in a private network (§6)."""
    callback_timeout_s: float = 10.0
    """How long a callback's receiver may take to answer (§6)."""
    max_in_flight: int | None = None
    """Unfinished tasks at a time; a submit beyond them is 429. ``None``: no limit."""
    submits_per_second: float | None = None
    """Submits a second, in bursts of at most one second; beyond is 429. ``None``: no limit."""
    files_quota: int = 2000
    """Most files that the file service holds at a time (§7)."""
    files_max_bytes: int = 100 * 1024 * 1024
    """Largest file that can be uploaded (§7)."""
    files_keep_s: float = 72 * 3600.0
    """How long an uploaded file lives (§7)."""
    files_errors: FilesErrors = FilesErrors.STATUS
    """How the file service says no."""

    def __post_init__(self) -> None:
        for name in (
            "latency_median_s",
            "latency_sigma",
            "credits_balance",
            "keep_s",
            "result_keep_s",
            "files_quota",
            "files_max_bytes",
            "files_keep_s",
        ):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative")
        for name in ("max_in_flight", "submits_per_second", "callback_timeout_s"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} must be positive")
        for name, statuses in _EXPIRED.items():
            if getattr(self, name) not in statuses:
                raise ValueError(f"{name} must be one of {sorted(statuses)}")

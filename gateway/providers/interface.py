"""What an upstream is to the engine: submit once, poll until it ends, read what it made.

The outcomes are values, one per decision the engine takes:

- submit: `Accepted` (it has an id), `NotSent` (proven: no byte of it was taken), `Rejected`
  (proven: the upstream parsed it and created nothing), `Unknown` (anything else; never sent again).
- poll: `Running`, `Finished`, `Failed`, `Missing`, `PollFailed` (the question failed, not the
  task).
- balance: `Balance`, `NoBalance` (the account cannot be used now).
- list: `Listed` tasks, `NoList`. For operators only: accounts are shared, a match proves nothing.

A provider never retries a submit and never decides about money.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Protocol

from gateway.domain.catalog import Offer
from gateway.domain.images import Picture, PictureFormat, TokenUsage
from gateway.domain.task import FailureKind, SubmitOrder


@dataclass(frozen=True, slots=True)
class Accepted:
    """The upstream created the task. `estimate_s` is its own guess of the time it takes."""

    upstream_id: str
    estimate_s: float | None = None
    credits_reserved: Fraction | None = None


@dataclass(frozen=True, slots=True)
class NotSent:
    """No connection was made: nothing can have been created, and trying again is safe."""

    reason: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """A parsed refusal: nothing was created. `detail` is for the operator's log only."""

    kind: FailureKind
    detail: str
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Unknown:
    """The request may have been taken; no answer says so. `reason` is for the operator."""

    reason: str


SubmitOutcome = Accepted | NotSent | Rejected | Unknown


@dataclass(frozen=True, slots=True)
class Running:
    """Not finished. `progress` is 0–100 where the upstream tells."""

    progress: int | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """Done and charged. `links` are where the pictures can be fetched (may be empty).

    `usage` and `credits_used` are None where the upstream does not tell; `duration_s` is the time
    it says it took. `revised_prompt` is the prompt as it drew it, empty where that is the caller's.
    `model` is the one it says it used, empty where it does not.
    """

    links: tuple[str, ...]
    usage: TokenUsage | None
    credits_used: Fraction | None
    duration_s: float | None = None
    revised_prompt: str = field(default="", repr=False)
    model: str = ""


@dataclass(frozen=True, slots=True)
class Failed:
    """Ended without a picture; free unless the upstream says that it billed it all the same."""

    kind: FailureKind
    detail: str
    credits_used: Fraction | None = None


@dataclass(frozen=True, slots=True)
class Missing:
    """The upstream says it knows no such task."""


@dataclass(frozen=True, slots=True)
class PollFailed:
    """The question was not answered; the task goes on."""

    reason: str
    retry_after_s: float | None = None


PollOutcome = Running | Finished | Failed | Missing | PollFailed


@dataclass(frozen=True, slots=True)
class FileToUpload:
    """A picture's bytes on their way to an upstream; `chunks` can be read once."""

    format: PictureFormat
    size_bytes: int
    chunks: AsyncIterator[bytes]


@dataclass(frozen=True, slots=True)
class Uploaded:
    """The file is there under this link, until `expires_ms` (Unix ms)."""

    url: str
    expires_ms: int


@dataclass(frozen=True, slots=True)
class UploadFailed:
    """There is no file, or nobody knows; `reason` is for the operator's log only."""

    kind: FailureKind
    reason: str


UploadOutcome = Uploaded | UploadFailed


class FileService(Protocol):
    """Where an upstream takes files that orders refer to; it costs nothing."""

    def use_key(self, api_key: str) -> None:
        """Upload by this key from now on."""
        ...

    async def upload(self, file: FileToUpload) -> UploadOutcome:
        """Bring one file up. Never raises for what the network or the upstream does."""
        ...


@dataclass(frozen=True, slots=True)
class Balance:
    """The account is served. `credits` is what it has left in the upstream's own unit.

    None where the upstream does not tell, or does not limit it; for operators, never for money.
    """

    credits: float | None


@dataclass(frozen=True, slots=True)
class NoBalance:
    """The upstream did not answer, or not to this account: down, or the key is refused."""

    reason: str


BalanceOutcome = Balance | NoBalance


@dataclass(frozen=True, slots=True)
class Listed:
    """A task as the account's list shows it; what the upstream does not tell is empty or None."""

    upstream_id: str
    created_s: int
    model: str
    status: str
    credits_used: Fraction | None


@dataclass(frozen=True, slots=True)
class NoList:
    """The account cannot be listed, or not whole. `reason` is for the operator."""

    reason: str


ListOutcome = tuple[Listed, ...] | NoList


class Provider(Protocol):
    """One account at one upstream."""

    @property
    def name(self) -> str:
        """The name of its section in the configuration; a metric label."""
        ...

    @property
    def account(self) -> str:
        """The account and its key of today, in words that may be stored: no secret."""
        ...

    @property
    def min_poll_interval_s(self) -> float:
        """The shortest pause between two polls of one task."""
        ...

    @property
    def proves_idempotency(self) -> bool:
        """Whether the same submit under the same key is known to be the same task."""
        ...

    def use_key(self, api_key: str) -> None:
        """Ask by this key from the next call on: of the same account, which knows its tasks."""
        ...

    def compose(self, offer: Offer, picture: Picture) -> SubmitOrder:
        """Return what will be sent for this picture; pure, so that it can be journaled first."""
        ...

    def with_callback(self, order: SubmitOrder, url: str) -> SubmitOrder:
        """Return the order with the wish to be called back there, if the upstream grants it."""
        ...

    def with_references(self, order: SubmitOrder, urls: Sequence[str]) -> SubmitOrder:
        """Return the order with links to its references, in their order, the mask's last."""
        ...

    async def submit(self, order: SubmitOrder, *, idempotency_key: str) -> SubmitOutcome:
        """Post the order once. Never raises for anything the network or the upstream does."""
        ...

    async def poll(self, upstream_id: str) -> PollOutcome:
        """Ask how the task stands. Never raises for what the network or the upstream does."""
        ...

    async def balance(self) -> BalanceOutcome:
        """Ask what the account has left. Never raises for what the network or upstream does."""
        ...

    async def list_since(self, since_s: int) -> ListOutcome:
        """Return the account's tasks that were created since then (Unix s), the newest first.

        Never raises for what the network or the upstream does.
        """
        ...

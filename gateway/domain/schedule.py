"""When to ask again: pure decisions, no clock and no randomness of their own."""

from __future__ import annotations

#: A gap may grow by this share of the time that has passed since the submit.
GAP_SHARE = 0.1
#: And starts from this many seconds.
GAP_START_S = 1.0
#: Up to this share of a gap is taken off at random, so that tasks do not poll in step.
JITTER_SHARE = 0.1
#: An upstream's `Retry-After` is honoured up to this many seconds.
MAX_RETRY_AFTER_S = 300.0


def poll_delay_s(
    elapsed_s: float, *, floor_s: float, jitter: float, retry_after_s: float | None = None
) -> float:
    """Return seconds until the next poll of a task submitted `elapsed_s` ago.

    The gap is 1 s plus 10 % of the elapsed time, less a jitter (`jitter` in [0, 1)), and never
    less than the provider's floor or what `Retry-After` asks for.
    """
    gap_s = GAP_START_S + GAP_SHARE * max(elapsed_s, 0.0)
    gap_s -= gap_s * JITTER_SHARE * jitter
    asked_s = min(retry_after_s or 0.0, MAX_RETRY_AFTER_S)
    return max(gap_s, floor_s, asked_s)


def backoff_s(failures: int, *, first_s: float, cap_s: float) -> float:
    """Return seconds to wait after the `failures`-th failure in a row (1-based): doubling."""
    return min(first_s * 2.0 ** min(failures - 1, 30), cap_s)

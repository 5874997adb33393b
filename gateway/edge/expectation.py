"""How long a picture is expected to take, told to a client that may not wait as long.

Clients tell their patience in headers of the SDKs (protocols/openai_images.md §9): Python's is
between two bytes, Node's covers at least the time to the headers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

#: Seconds a client waits between two bytes (Python), and for an answer (Node).
SILENCE_HEADER = "x-stainless-read-timeout"
ANSWER_HEADER = "x-stainless-timeout"


@dataclass(frozen=True, slots=True)
class Expectation:
    """Whole seconds within which a picture of this kind is done nearly always.

    `fits` is False when the client has said that it gives up sooner.
    """

    seconds: int
    fits: bool

    def headers(self) -> dict[str, str]:
        """Return the headers that tell it."""
        told = {"x-gateway-expected-seconds": str(self.seconds)}
        if not self.fits:
            told["x-gateway-timeout-hint"] = f"raise your timeout above {self.seconds}s"
        return told


def expectation(
    expected_s: float | None, headers: Mapping[str, str], *, silence_s: float
) -> Expectation | None:
    """Return what to tell a client; None where nothing is known of pictures of this kind.

    `silence_s` is the longest time without a byte from us, zero when there is no limit to it: a
    client that waits longer between two bytes waits for any picture.
    """
    if expected_s is None:
        return None
    patience_s = _seconds(headers.get(SILENCE_HEADER))
    if 0 < silence_s < patience_s:
        patience_s = math.inf
    patience_s = min(patience_s, _seconds(headers.get(ANSWER_HEADER)))
    return Expectation(max(math.ceil(expected_s), 1), fits=expected_s < patience_s)


def _seconds(text: str | None) -> float:
    """Read a number of seconds above zero; what is none of that limits nothing."""
    try:
        seconds = float(text or "")
    except ValueError:
        return math.inf
    return seconds if seconds > 0 else math.inf

from __future__ import annotations

import pytest

from gateway.edge.expectation import Expectation, expectation


@pytest.mark.parametrize(
    ("headers", "silence_s", "fits"),
    [
        ({}, 0.0, True),
        ({"x-stainless-read-timeout": "600"}, 0.0, True),
        ({"x-stainless-read-timeout": "43"}, 0.0, True),
        ({"x-stainless-read-timeout": "42.5"}, 0.0, False),
        ({"x-stainless-read-timeout": "12.5"}, 0.0, False),
        ({"x-stainless-timeout": "30"}, 0.0, False),
        ({"x-stainless-timeout": "60"}, 0.0, True),
        ({"x-stainless-read-timeout": "soon"}, 0.0, True),
        ({"x-stainless-read-timeout": "nan"}, 0.0, True),
        ({"x-stainless-read-timeout": "-1"}, 0.0, True),
        ({"x-stainless-timeout": "0"}, 0.0, True),
        # Bytes come sooner than a client that counts from byte to byte gives up ...
        ({"x-stainless-read-timeout": "30"}, 25.0, True),
        ({"x-stainless-read-timeout": "25"}, 25.0, False),
        ({"x-stainless-read-timeout": "20"}, 25.0, False),
        # ... which does not help who counts to the end.
        ({"x-stainless-timeout": "30"}, 25.0, False),
        ({"x-stainless-read-timeout": "30", "x-stainless-timeout": "30"}, 25.0, False),
    ],
)
def test_what_fits_into_a_clients_patience(
    headers: dict[str, str], silence_s: float, fits: bool
) -> None:
    """A client fits when it waits longer than nearly every picture takes, or for any byte."""
    assert Expectation(43, fits) == expectation(42.5, headers, silence_s=silence_s)


def test_nothing_is_told_of_what_nobody_knows() -> None:
    """A kind of picture that was never made has no expectation, however short the patience."""
    assert expectation(None, {"x-stainless-timeout": "1"}, silence_s=0.0) is None


@pytest.mark.parametrize(("expected_s", "seconds"), [(0.01, 1), (1.0, 1), (1.2, 2), (42.0, 42)])
def test_seconds_are_whole_and_rounded_up(expected_s: float, seconds: int) -> None:
    """At least one second, and never less than what is expected."""
    assert Expectation(seconds, fits=True) == expectation(expected_s, {}, silence_s=0.0)


@pytest.mark.parametrize(
    ("told", "headers"),
    [
        (Expectation(43, fits=True), {"x-gateway-expected-seconds": "43"}),
        (
            Expectation(43, fits=False),
            {
                "x-gateway-expected-seconds": "43",
                "x-gateway-timeout-hint": "raise your timeout above 43s",
            },
        ),
    ],
)
def test_headers(told: Expectation, headers: dict[str, str]) -> None:
    """The seconds are always told, the hint only to who cannot wait for them."""
    assert headers == told.headers()

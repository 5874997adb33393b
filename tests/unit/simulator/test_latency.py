from random import Random

import pytest

from gateway.simulator.latency import Form, Profile, read_profile


def draws(profile: Profile, elapsed_s: float = 0.0, sigma: float = 0.0) -> list[float]:
    """Draw a thousand times around eight seconds."""
    random = Random(1)
    return [profile.latency_s(8.0, sigma, elapsed_s=elapsed_s, random=random) for _ in range(1000)]


@pytest.mark.parametrize(
    ("text", "profile"),
    [
        ("lognormal", Profile()),
        ("bimodal", Profile(Form.BIMODAL, share=0.1, factor=6.0)),
        ("BIMODAL:0.5", Profile(Form.BIMODAL, share=0.5, factor=6.0)),
        ("bimodal:0.5:10", Profile(Form.BIMODAL, share=0.5, factor=10.0)),
        ("drift", Profile(Form.DRIFT, ramp_s=600.0, factor=3.0)),
        ("drift:60:2", Profile(Form.DRIFT, ramp_s=60.0, factor=2.0)),
    ],
)
def test_profiles(text: str, profile: Profile) -> None:
    """A profile is a name, and numbers with defaults."""
    assert profile == read_profile(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "normal",
        "lognormal:1",
        "bimodal:2",
        "bimodal:0",
        "bimodal:x",
        "drift:1:2:3",
        "drift:inf",
    ],
)
def test_odd_profiles(text: str) -> None:
    """What means nothing is refused."""
    with pytest.raises(ValueError, match=r"."):
        read_profile(text)


def test_two_humps() -> None:
    """A share of the renders takes a multiple."""
    latencies = draws(read_profile("bimodal:0.25:5"))

    assert {8.0, 40.0} == {round(latency, 6) for latency in latencies}
    assert 200 < sum(latency > 20 for latency in latencies) < 300


@pytest.mark.parametrize(
    ("elapsed_s", "latency_s"), [(0, 8.0), (30, 12.0), (60, 16.0), (600, 16.0)]
)
def test_drift(elapsed_s: float, latency_s: float) -> None:
    """Renders slow down until the end of the ramp."""
    assert latency_s == pytest.approx(draws(read_profile("drift:60:2"), elapsed_s)[0])


def test_no_median_no_time() -> None:
    """Zero stays zero, whatever the profile."""
    assert 0.0 == read_profile("drift").latency_s(0, 0.5, elapsed_s=900, random=Random(1))

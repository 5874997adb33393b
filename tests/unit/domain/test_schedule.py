import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.schedule import backoff_s, poll_delay_s


@pytest.mark.parametrize(
    ("elapsed_s", "floor_s", "jitter", "retry_after_s", "delay_s"),
    [
        # One second and a tenth of what has passed.
        (0.0, 0.0, 0.0, None, 1.0),
        (10.0, 0.0, 0.0, None, 2.0),
        (90.0, 0.0, 0.0, None, 10.0),
        (-5.0, 0.0, 0.0, None, 1.0),
        # Jitter takes off up to a tenth of the gap.
        (90.0, 0.0, 0.5, None, 9.5),
        (90.0, 0.0, 1.0, None, 9.0),
        # The provider's floor holds, also against jitter.
        (0.0, 3.0, 0.9, None, 3.0),
        (90.0, 3.0, 0.0, None, 10.0),
        # Retry-After holds as well, up to five minutes, and shortens nothing.
        (0.0, 2.0, 0.0, 7.0, 7.0),
        (0.0, 8.0, 0.0, 7.0, 8.0),
        (90.0, 0.0, 0.0, 0.5, 10.0),
        (0.0, 0.0, 0.0, 3600.0, 300.0),
        (0.0, 0.0, 0.0, 0.0, 1.0),
    ],
)
def test_poll_delay(
    elapsed_s: float, floor_s: float, jitter: float, retry_after_s: float | None, delay_s: float
) -> None:
    """The gap grows with the time passed; floors and Retry-After always hold."""
    actual = poll_delay_s(elapsed_s, floor_s=floor_s, jitter=jitter, retry_after_s=retry_after_s)

    assert delay_s == pytest.approx(actual)


@given(
    elapsed_s=st.floats(min_value=0, max_value=90_000),
    floor_s=st.floats(min_value=0, max_value=10),
    jitter=st.floats(min_value=0, max_value=1, exclude_max=True),
)
def test_gaps_stay_bounded(elapsed_s: float, floor_s: float, jitter: float) -> None:
    """A gap never exceeds 1 s + 10 % of the elapsed time beyond what the floor forces (rule 21)."""
    delay_s = poll_delay_s(elapsed_s, floor_s=floor_s, jitter=jitter)

    assert floor_s <= delay_s <= max(floor_s, 1 + elapsed_s / 10 + 1e-9)


@pytest.mark.parametrize(
    ("failures", "wait_s"), [(1, 0.2), (2, 0.4), (3, 0.8), (8, 25.6), (9, 30.0), (10_000, 30.0)]
)
def test_backoff_doubles_up_to_a_cap(failures: int, wait_s: float) -> None:
    """Each failure in a row doubles the wait, and no number of them breaks the arithmetic."""
    assert wait_s == pytest.approx(backoff_s(failures, first_s=0.2, cap_s=30.0))

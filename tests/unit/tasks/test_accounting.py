from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry

from gateway.domain.images import Size, TokenUsage
from gateway.domain.pricing import NO_CHARGE, Charge, ChargeBasis, possible
from gateway.domain.sizes import FixedSizes, FreeSizes, SizeRule
from gateway.domain.task import Event, RenderState
from gateway.tasks.accounting import Accounting
from gateway.tasks.interface import Ending
from gateway.telemetry.metrics import OTHER, Metrics
from tests.support.factories import a_live_task, a_render, a_task, an_offer

MODEL = "gpt-image-1.5"
FREE = FreeSizes(step=16, min_edge=16, max_edge=3840, min_pixels=1, max_pixels=10**8, max_aspect=3)


class Books:
    """Accounting on fresh metrics."""

    def __init__(self) -> None:
        self.metrics = Metrics(CollectorRegistry(), version="1")
        self.accounting = Accounting(self.metrics)

    def samples(self, name: str) -> dict[tuple[str, ...], float]:
        """Return the samples of one metric by their label values, in the metric's own order."""
        return {
            tuple(sample.labels.values()): sample.value
            for family in self.metrics.registry.collect()
            for sample in family.samples
            if sample.name == f"gateway_{name}"
        }


async def test_tasks_in_flight() -> None:
    """A task is counted in once and out once, under its provider."""
    books, live = Books(), a_live_task(a_task(provider="other-account"))
    books.accounting.admitted(live)
    books.accounting.admitted(a_live_task(a_task(provider="other-account")))
    books.accounting.left(live)

    assert books.samples("tasks_in_flight") == {("other-account",): 1}


async def test_a_task_that_is_over_is_not_counted_out_again() -> None:
    """An outcome that is there already means that the task has been counted out."""
    books, live = Books(), a_live_task()
    books.accounting.admitted(live)
    live.resolve()
    books.accounting.left(live)

    assert books.samples("tasks_in_flight") == {("evolink",): 1}


async def test_phases_add_up() -> None:
    """Tries of one phase add up on the task; each is observed by itself."""
    books, live = Books(), a_live_task()
    books.accounting.phase(live, "submit", 0.5)
    books.accounting.phase(live, "submit", 0.25)
    books.accounting.phase(live, "render", 8.0)

    assert live.phases_s == {"submit": 0.75, "render": 8.0}
    assert books.samples("phase_duration_seconds_sum") == {
        ("submit", "evolink", MODEL): 0.75,
        ("render", "evolink", MODEL): 8.0,
    }
    assert books.samples("phase_duration_seconds_count")["submit", "evolink", MODEL] == 2


async def test_detected() -> None:
    """A render's end tells its length, its polls, and the lag: the gap since it last ran."""
    books, live = Books(), a_live_task()
    [one] = live.renders
    one.submitted_s, one.last_pending_s, one.polls = 100.0, 107.5, 4
    books.accounting.detected(one, 109.0)

    assert live.phases_s == {"render": 9.0}
    assert books.samples("phase_duration_seconds_sum") == {("render", "evolink", MODEL): 9.0}
    assert books.samples("polls_per_render_sum") == {("evolink",): 4}
    assert books.samples("detection_lag_seconds_sum") == {("evolink",): 1.5}


async def test_nothing_is_learned_from_the_times_of_an_adopted_task() -> None:
    """Nobody knows how long it was not looked at: an outage is no latency (rule 21)."""
    books, live = Books(), a_live_task()
    live.adopted = True
    books.accounting.detected(live.renders[0], 109.0)

    assert live.phases_s == {}
    assert books.samples("phase_duration_seconds_count") == {}
    assert books.samples("detection_lag_seconds_count") == {}


async def test_recovered() -> None:
    """Tasks that were taken over are counted."""
    books = Books()
    books.accounting.recovered()

    assert books.samples("recovered_tasks_total") == {(): 1}


async def test_tried_again() -> None:
    """A submission that failed at no charge is a render of its own kind."""
    books = Books()
    books.accounting.tried_again(a_live_task().renders[0])

    assert books.samples("renders_total") == {("evolink", MODEL, "retried"): 1}


@pytest.mark.parametrize(
    ("charge", "cost", "possible_usd", "overrun"),
    [
        (
            Charge(7852, {"image_output": 7834, "text_input": 18}, ChargeBasis.TOKENS),
            {
                ("design", MODEL, "evolink", "image_output"): 0.007834,
                ("design", MODEL, "evolink", "text_input"): 0.000018,
            },
            {},
            {},
        ),
        # The hold was 10,000; the truth is booked and what it exceeds the hold by is counted.
        (
            Charge(12_500, {"image_output": 12_500}, ChargeBasis.CREDITS),
            {("design", MODEL, "evolink", "image_output"): 0.0125},
            {},
            {("design",): 0.0025},
        ),
        (
            possible(10_000),
            {("design", MODEL, "evolink", "image_output"): 0.01},
            {("evolink",): 0.01},
            {},
        ),
        (NO_CHARGE, {}, {}, {}),
    ],
)
async def test_concluded(
    charge: Charge,
    cost: dict[tuple[str, ...], float],
    possible_usd: dict[tuple[str, ...], float],
    overrun: dict[tuple[str, ...], float],
) -> None:
    """The end of a render moves its money by category, and what was unknown or above the hold."""
    books, live = Books(), a_live_task(a_task(hold_microusd=10_000))
    books.accounting.concluded(live.renders[0], Ending(event=Event.FINISH, charge=charge))

    assert cost == pytest.approx(books.samples("cost_usd_total"))
    assert possible_usd == pytest.approx(books.samples("possible_charge_usd_total"))
    assert overrun == pytest.approx(books.samples("hold_overrun_usd_total"))


async def test_an_overrun_is_what_exceeds_the_raised_hold() -> None:
    """What was held more for a render is held: only what goes beyond that is an overrun."""
    books, live = Books(), a_live_task(a_task(a_render(0), a_render(1), hold_microusd=10_000))
    live.renders[0].render = replace(live.renders[0].render, raised_microusd=2_000)
    charge = Charge(12_500, {"image_output": 12_500}, ChargeBasis.CREDITS)
    for one in live.renders:
        books.accounting.concluded(one, Ending(event=Event.FINISH, charge=charge))

    assert {("design",): 0.0005 + 0.0025} == pytest.approx(books.samples("hold_overrun_usd_total"))


@pytest.mark.parametrize(
    ("drift_microusd", "drift_usd"), [(None, {}), (0, {}), (250, 0.00025), (-250, 0.00025)]
)
async def test_billing_drift(drift_microusd: int | None, drift_usd: object) -> None:
    """What a bill differs by from our own reckoning adds up, too much like too little."""
    books, live = Books(), a_live_task()
    charge = Charge(10, {"image_output": 10}, ChargeBasis.CREDITS, drift_microusd)
    books.accounting.concluded(live.renders[0], Ending(event=Event.FINISH, charge=charge))
    expected = {("evolink",): drift_usd} if drift_usd else {}

    assert expected == pytest.approx(books.samples("billing_drift_usd_total"))


@pytest.mark.parametrize("state", [RenderState.COMPLETED, RenderState.FAILED, RenderState.UNKNOWN])
async def test_renders_by_outcome(state: RenderState) -> None:
    """A render is counted by the state it ended in."""
    books, live = Books(), a_live_task(a_task(state=state))
    books.accounting.concluded(live.renders[0], Ending(event=Event.FINISH, charge=NO_CHARGE))

    assert {("evolink", MODEL, state.value): 1} == books.samples("renders_total")


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        (None, {}),
        (TokenUsage(), {}),
        (
            TokenUsage(text_input=4, image_output=272),
            {
                ("design", MODEL, "text_input"): 4,
                ("design", MODEL, "image_output"): 272,
            },
        ),
    ],
)
async def test_used(usage: TokenUsage | None, tokens: dict[tuple[str, ...], float]) -> None:
    """Tokens are counted by category; categories that were not used do not appear."""
    books = Books()
    books.accounting.used(a_live_task(), usage)

    assert tokens == books.samples("tokens_total")


async def test_stored() -> None:
    """A picture is counted by what was made and for whom."""
    books = Books()
    live = a_live_task(replace(a_task(), quality="high", size="1024x1536"))
    books.accounting.stored(live, cut=False)
    books.accounting.stored(live, cut=True)

    assert books.samples("images_total") == {("design", MODEL, "evolink", "high", "1024x1536"): 2}
    assert books.samples("pictures_cut_total") == {("evolink",): 1}


@pytest.mark.parametrize(
    ("rule", "size", "label"),
    [
        (FixedSizes((Size(1024, 1024), Size(800, 600))), "800x600", "800x600"),
        (FixedSizes((Size(1024, 1024),)), "1536x1024", OTHER),
        (FREE, "2048x2048", "2048x2048"),
        (FREE, "1040x1024", OTHER),
        (None, "1024x1024", "1024x1024"),
        (None, "1040x1024", OTHER),
    ],
)
async def test_a_client_cannot_make_series_with_sizes(
    rule: SizeRule | None, size: str, label: str
) -> None:
    """Sizes of a list are told apart; of those that a model makes freely, the usual ones."""
    books, live = Books(), a_live_task(replace(a_task(), size=size))
    offer = an_offer()
    live.offer = None if rule is None else replace(offer, sizes=rule)
    books.accounting.stored(live, cut=False)

    [labels] = books.samples("images_total")
    assert label == labels[-1]


async def test_the_upstream_is_waited_for_as_long_as_for_the_slowest_picture() -> None:
    """Renders run side by side: their times do not add up, the tries and phases of each do."""
    books, live = Books(), a_live_task(a_task(a_render(0), a_render(1)))
    first, second = live.renders
    for phase in ("queue", "submit", "submit", "fetch", "store"):
        books.accounting.render_phase(first, phase, 1.0)
    books.accounting.render_phase(second, "submit", 1.0)
    second.submitted_s = 100.0
    books.accounting.detected(second, 108.0)

    assert live.upstream_s == 9.0
    assert live.phases_s == {"queue": 1.0, "submit": 3.0, "fetch": 1.0, "store": 1.0, "render": 8.0}

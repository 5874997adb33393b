from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.assets.interface import LinkDeadError
from gateway.domain.task import FailureKind, RenderState
from gateway.providers.interface import Accepted, Failed, NotSent
from gateway.store.client import Store
from gateway.telemetry.traces import active, current_span
from tests.support.engine import COST, DONE, TEAM, House, open_house, over
from tests.support.factories import a_call
from tests.support.spans import PARENT, TRACE_ID, Recorder, below

RENDER = "generate_content gpt-image-1.5"


@pytest.fixture
def recorder() -> Recorder:
    """Record every span."""
    return Recorder()


@pytest.fixture
async def traced(store: Store, recorder: Recorder) -> AsyncIterator[House]:
    """Run a replica that traces."""
    async with open_house(store, tracer=recorder.tracer) as opened:
        yield opened


async def picture(house: House, trace: str = PARENT) -> None:
    """Make one picture."""
    ticket = await house.call(trace=trace)
    assert ticket.live is not None
    await house.poller.poll()
    await over(ticket.live)


async def test_a_render_and_its_phases(traced: House, recorder: Recorder) -> None:
    """In the trace of the call, whoever it is made by; with what it has cost."""
    await picture(traced)
    *phases, render = recorder.spans

    assert ["queue", "submit", "render", "fetch", "store"] == [span.name for span in phases]
    assert all(below(span, render) for span in phases)
    assert render.parent is not None
    assert TRACE_ID == render.parent.trace_id
    assert render.attributes is not None
    assert (RENDER, COST, "completed") == (
        render.name,
        render.attributes["gateway.cost_microusd"],
        render.attributes["gateway.state"],
    )
    ends = [span.end_time or 0 for span in phases]
    assert ends == sorted(ends)


async def test_calls_to_the_upstream_are_made_under_their_phase(
    traced: House, recorder: Recorder
) -> None:
    """So that their own spans are below it, and the upstream is told of it."""
    asked: list[str] = []

    async def submitting() -> None:
        asked.append(current_span().context)

    traced.provider.before_submit = submitting
    traced.provider.during_poll = lambda: asked.append(current_span().context)
    await picture(traced)
    phases = [recorder.named(name).get_span_context() for name in ("submit", "render")]

    assert [f"{phase.span_id:016x}" for phase in phases] == [told[36:52] for told in asked]


async def test_each_try_is_a_phase_of_the_same_render(traced: House, recorder: Recorder) -> None:
    """What was not sent waits again; what fails at no charge is made once more."""
    failed = Failed(FailureKind.GENERATION_FAILED, "")
    traced.provider.submits = [NotSent("refused"), Accepted("up-1"), Accepted("up-2")]
    traced.provider.polls = [failed, DONE]
    ticket = await traced.call(trace=PARENT)
    await traced.poller.poll()
    await traced.poller.poll()
    assert ticket.live is not None
    await over(ticket.live)

    once = ["queue", "submit"]
    assert [*once, *once, "render", *once, "render", "fetch", "store", RENDER] == recorder.names
    assert recorder.named(RENDER).status.is_ok


async def test_a_render_that_fails(traced: House, recorder: Recorder) -> None:
    """Why is one of a few words."""
    traced.provider.polls = [Failed(FailureKind.MODERATION, "the words were: a red fox")]
    await picture(traced)
    render = recorder.named(RENDER)

    assert render.attributes is not None
    assert ("moderation", False) == (render.attributes["error.type"], render.status.is_ok)
    assert not any("fox" in str(span.to_json()) for span in recorder.spans)


async def test_a_picture_that_is_lost(traced: House, recorder: Recorder) -> None:
    """It was paid for and cannot be fetched."""
    traced.fetcher.failures = [LinkDeadError("HTTP 404")]
    await picture(traced)

    assert {"error.type": "result_lost"}.items() <= dict(
        recorder.named(RENDER).attributes or {}
    ).items()


@pytest.mark.parametrize("state", [RenderState.QUEUED, RenderState.SUBMITTED])
async def test_whoever_takes_a_task_over_goes_on_with_its_trace(
    traced: House, recorder: Recorder, state: RenderState
) -> None:
    """The record tells it; what the dead replica had begun is told of by nobody."""
    live = await traced.take(await traced.left_behind(state, trace=PARENT))
    if state is RenderState.QUEUED:
        await traced.poller.poll()
    await over(live)
    render = recorder.named(RENDER)

    assert render.parent is not None
    assert TRACE_ID == render.parent.trace_id
    assert True is (render.attributes or {})["gateway.adopted"]
    assert below(recorder.named("render"), render)


async def test_a_task_that_is_handed_over(traced: House, recorder: Recorder) -> None:
    """Its span ends here, and says so: the other replica has one of its own in the same trace."""
    await traced.call(trace=PARENT)
    await traced.until_in(RenderState.SUBMITTED)
    async with open_house(
        traced.store, owner="replica_2", provider=traced.provider, tracer=recorder.tracer
    ) as second:
        await asyncio.wait_for(traced.engine.hand_over(), 5.0)
        [handed] = await second.journal.owned(TEAM.id, "")
        taken = await second.journal.take(TEAM.id, handed, owner="")
        assert taken is not None
        second.engine.adopt(taken)
        await over(second.engine.running[handed])
    here, there = (span for span in recorder.spans if span.name == RENDER)

    assert {TRACE_ID} == {span.get_span_context().trace_id for span in (here, there)}
    assert (True, None) == (
        (here.attributes or {})["gateway.moved"],
        (there.attributes or {}).get("gateway.moved"),
    )


async def test_admission_is_a_phase_of_the_call(traced: House, recorder: Recorder) -> None:
    """Also of one that is attached to another's task, whose trace it learns."""
    with active(recorder.tracer.begin("call", parent=PARENT)) as call:
        first = await traced.call(call=a_call("req_1"), trace=call.context)
    second = await traced.call("task2", call=a_call("req_2", count=1), trace="")
    admits = [span for span in recorder.spans if span.name == "admit"]

    assert (False, call.context) == (first.joined, first.trace)
    assert (True, call.context) == (second.joined, second.trace)
    assert [call.context[36:52]] == [
        f"{span.parent.span_id:016x}" for span in admits if span.parent
    ]


async def test_a_task_without_a_trace_has_no_spans(traced: House, recorder: Recorder) -> None:
    """It was admitted by a gateway that does not trace: nothing hangs in the air."""
    await picture(traced, trace="")

    assert [] == recorder.names

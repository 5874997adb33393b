from __future__ import annotations

from dataclasses import replace

import orjson
import pytest

from gateway.callbacks.interface import CallbackEvent
from gateway.domain.task import FailureKind, Surface, Task
from gateway.domain.tokens import Signer
from gateway.domain.unified_ids import unified_id
from gateway.service.client_callbacks import ClientCallbacks
from gateway.service.evolink_json import Seen, as_json, task_body
from gateway.service.links import Links
from tests.support.clock import NOON_MS, FixedClock
from tests.support.factories import a_picture_in_store, a_render, a_result, a_task

ENDS = [
    (None, CallbackEvent.COMPLETED),
    (FailureKind.MODERATION, CallbackEvent.FAILED),
    (FailureKind.SUBMIT_UNKNOWN, CallbackEvent.FAILED),
    (FailureKind.WITHDRAWN, CallbackEvent.CANCELLED),
]


async def _signer() -> Signer:
    return Signer((b"secret",))


LINKS = Links(_signer, FixedClock(), keep_ms=86_400_000, public_url="")


def callbacks() -> ClientCallbacks:
    """Compose what is told at noon, by a catalogue that believes nothing."""
    return ClientCallbacks(links=LINKS, clock=FixedClock(), find_offer=lambda _: None)


def ended(failure: FailureKind | None, surface: Surface) -> Task:
    """Build a task that has ended at noon, and wants to be told of below its own address."""
    stored = None if failure else a_picture_in_store(0)
    return replace(
        a_task(a_render(0, result=a_result(failure=failure, stored=stored))),
        ended_ms=NOON_MS,
        callback_url="https://client.example/done",
        surface=surface,
        base_url="http://gateway:8080/",
    )


@pytest.mark.parametrize(("failure", "event"), ENDS)
async def test_callbacks_tell_what_became_of_a_task(
    failure: FailureKind | None, event: CallbackEvent
) -> None:
    """The body is the task, under the name of the event."""
    task = ended(failure, Surface.OPENAI)
    callback = await callbacks().of(task)
    body = orjson.loads(callback.body)

    assert (event, task.id, task.callback_url) == (callback.event, callback.task, callback.url)
    assert (f"image.task.{event}", task.id) == (body["type"], body["data"]["id"])
    assert NOON_MS // 1000 == body["data"]["created"]


@pytest.mark.parametrize(("failure", "event"), ENDS)
async def test_clients_of_evolink_are_told_in_its_words(
    failure: FailureKind | None, event: CallbackEvent
) -> None:
    """Not wrapped, and byte for byte what a query would have answered them, links included."""
    task = ended(failure, Surface.EVOLINK)
    callback = await callbacks().of(task)
    body = orjson.loads(callback.body)
    urls = await LINKS.urls(task, task.base_url)

    assert event == callback.event
    assert callback.body == as_json(task_body(Seen(task, NOON_MS), urls))
    assert unified_id(task.id, task.created_ms) == body["id"]
    if failure is None:
        assert list(urls) == body["results"]
        assert urls[0].startswith("http://gateway:8080/v1/assets/")
    else:
        assert "failed" == body["status"]

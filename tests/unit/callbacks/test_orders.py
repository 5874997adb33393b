from __future__ import annotations

from gateway.callbacks.interface import Callback, CallbackEvent
from gateway.callbacks.orders import delivery_keys, enqueue_order
from gateway.domain.ids import TaskId, TeamId

TEAM = TeamId("design")


def test_the_order_has_what_the_fragment_reads() -> None:
    """Each name in it is read by callbacks/lua/queue.lua."""
    callback = Callback(
        TEAM, TaskId("imgtask_1"), CallbackEvent.FAILED, "https://a.example/", b"{}"
    )

    assert {
        "id": "evt_imgtask_1_failed",
        "task": "imgtask_1",
        "event": "failed",
        "url": "https://a.example/",
        "body": "{}",
        "due_ms": 5,
    } == enqueue_order(callback, due_ms=5)


def test_the_keys_are_in_the_teams_slot() -> None:
    """A settlement may change them too, also on a cluster."""
    assert (
        "{t:design}:callbacks",
        "{t:design}:callback:evt_imgtask_1_failed",
    ) == delivery_keys(TEAM, "evt_imgtask_1_failed")

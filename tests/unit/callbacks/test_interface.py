from __future__ import annotations

import pytest

from gateway.callbacks.interface import Callback, CallbackEvent, SigningSecrets
from gateway.domain.ids import TaskId, TeamId


def callback(event: CallbackEvent = CallbackEvent.COMPLETED, body: bytes = b"{}") -> Callback:
    """Return a callback of one task."""
    return Callback(TeamId("design"), TaskId("imgtask_1"), event, "https://a.example/?t=s", body)


def test_the_id_is_the_tasks_and_the_events() -> None:
    """The same call and end have the same id whoever says so; another end has another one."""
    assert "evt_imgtask_1_completed" == callback().id
    assert callback().id == callback(body=b'{"a": 1}').id
    assert "evt_imgtask_1_cancelled" == callback(CallbackEvent.CANCELLED).id


def test_a_body_that_cannot_be_signed_is_refused() -> None:
    """The scheme signs text."""
    with pytest.raises(UnicodeDecodeError):
        callback(body=b"\xff")


def test_what_is_printed_holds_no_secret() -> None:
    """Neither addresses with their query nor secrets appear in a representation."""
    assert "a.example" not in repr(callback())
    assert "whsec" not in repr(SigningSecrets("whsec_new", "whsec_old"))


def test_all_secrets_are_those_that_there_are() -> None:
    """The newest first; no former one is no secret."""
    assert ("new",) == SigningSecrets("new").all
    assert ("new", "old") == SigningSecrets("new", "old").all

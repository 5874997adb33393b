import math
from dataclasses import replace
from random import Random

import pytest

from gateway.simulator.clock import Clock
from gateway.simulator.mailbox import RETRY_DELAYS_S, Mail, Mailbox
from gateway.simulator.orders import read_order
from gateway.simulator.script import Letter, LetterForm, Moment, Script
from gateway.simulator.tasks import Task, new_task

CLOCK = Clock(monotonic_s=lambda: 500.0, wall_s=lambda: 1_790_000_000.0)
HOOK = "https://hooks.example/hook"
ALL = frozenset(Moment)


def a_task(*letters: Letter, callback_url: str = HOOK) -> Task:
    """Accept an order that takes twenty seconds, with these callbacks."""
    order = read_order({"model": "gpt-image-2", "callback_url": callback_url}, "a fox")
    return new_task(order, Script(letters=letters), 20.0, clock=CLOCK, random=Random(7))


@pytest.mark.parametrize(
    ("letter", "due_s"),
    [
        (Letter(), 520.0),
        (Letter(after_s=5), 525.0),
        (Letter(Moment.SUBMIT), 500.0),
        (Letter(Moment.HALFWAY), 510.0),
    ],
)
def test_when_a_callback_is_due(letter: Letter, due_s: float) -> None:
    """The moment counts, and what comes after it."""
    mailbox = Mailbox()
    mailbox.post(a_task(letter), ALL)

    assert due_s == mailbox.next_s()
    assert [] == mailbox.take(due_s - 0.1)
    assert 1 == len(mailbox.take(due_s))
    assert mailbox.next_s() is None


def test_only_the_asked_moments_are_planned() -> None:
    """What the end brings is not known at the submit."""
    mailbox = Mailbox()
    task = a_task(Letter(Moment.SUBMIT, form=LetterForm.FORGED), Letter())
    mailbox.post(task, frozenset({Moment.SUBMIT}))

    assert [Mail(task.id, HOOK, LetterForm.FORGED)] == mailbox.take(1000.0)


def test_without_a_target_nothing_is_planned() -> None:
    """A task without a callback has none, whatever its script says."""
    mailbox = Mailbox()
    mailbox.post(a_task(Letter(copies=9), callback_url=""), ALL)

    assert mailbox.next_s() is None


def test_a_task_that_never_ends_is_never_told() -> None:
    """Infinity is no due time."""
    mailbox = Mailbox()
    mailbox.post(replace(a_task(Letter()), due_s=math.inf), ALL)

    assert mailbox.next_s() is None


def test_order_is_that_of_due_times() -> None:
    """The earliest goes first; equals go as they were posted."""
    mailbox = Mailbox()
    late, early = a_task(Letter(after_s=9)), a_task(Letter(copies=2))
    mailbox.post(late, ALL)
    mailbox.post(early, ALL)

    assert [early.id, early.id, late.id] == [mail.task_id for mail in mailbox.take(1000.0)]


def test_equal_due_times() -> None:
    """Callbacks of several tasks may be due at the same moment."""
    mailbox = Mailbox()
    ids = [f"task-{number}" for number in range(3)]
    for task_id in ids:
        mailbox.again(Mail(task_id, HOOK, LetterForm.TASK), 100.0)

    assert ids == [mail.task_id for mail in mailbox.take(101.0)]


def test_repetitions_end() -> None:
    """A failed callback comes back after one, two and four seconds, and then no more."""
    mailbox = Mailbox()
    mail = Mail("task", HOOK, LetterForm.TASK)
    pauses = []
    while mailbox.again(mail, 100.0):
        next_s = mailbox.next_s()
        assert next_s is not None
        pauses.append(next_s - 100.0)
        [mail] = mailbox.take(1000.0)

    assert RETRY_DELAYS_S == tuple(pauses)
    assert 3 == mail.attempt


def test_clear() -> None:
    """A reset forgets what was planned."""
    mailbox = Mailbox()
    mailbox.post(a_task(Letter()), ALL)
    mailbox.clear()

    assert [] == mailbox.take(1000.0)

"""When which callback goes out: a heap of letters, without a task or a thread for any of them."""

import heapq
import itertools
import math
from dataclasses import dataclass, replace

from gateway.simulator.script import LetterForm, Moment
from gateway.simulator.tasks import Task

RETRY_DELAYS_S = (1.0, 2.0, 4.0)
"""Pauses before the three repetitions of a callback that was not answered 2xx (§6)."""


@dataclass(frozen=True, slots=True)
class Mail:
    """Hold one callback that has to be sent."""

    task_id: str
    url: str
    form: LetterForm
    attempt: int = 0
    """How often it was sent before."""


class Mailbox:
    """Keep callbacks in the order in which they are due."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Mail]] = []
        self._numbers = itertools.count()

    def post(self, task: Task, moments: frozenset[Moment]) -> None:
        """Plan the callbacks of a task that belong to ``moments``; none without a target."""
        if not task.order.callback_url:
            return
        for letter in task.script.letters:
            if letter.moment not in moments:
                continue
            mail = Mail(task.id, task.order.callback_url, letter.form)
            due_s = _moment_s(task, letter.moment) + letter.after_s
            for _ in range(letter.copies):
                self._push(due_s, mail)

    def again(self, mail: Mail, now_s: float) -> bool:
        """Plan the repetition of a callback that failed; tell whether there is one."""
        if mail.attempt >= len(RETRY_DELAYS_S):
            return False
        delay_s = RETRY_DELAYS_S[mail.attempt]
        self._push(now_s + delay_s, replace(mail, attempt=mail.attempt + 1))
        return True

    def next_s(self) -> float | None:
        """Return when the next callback is due, or ``None`` when none is planned."""
        return self._heap[0][0] if self._heap else None

    def take(self, now_s: float) -> list[Mail]:
        """Remove and return what is due."""
        due = []
        while self._heap and self._heap[0][0] <= now_s:
            due.append(heapq.heappop(self._heap)[2])
        return due

    def waiting(self) -> int:
        """Return how many callbacks are planned."""
        return len(self._heap)

    def clear(self) -> None:
        """Forget every callback that is planned."""
        self._heap.clear()

    def _push(self, due_s: float, mail: Mail) -> None:
        if due_s < math.inf:
            heapq.heappush(self._heap, (due_s, next(self._numbers), mail))


def _moment_s(task: Task, moment: Moment) -> float:
    match moment:
        case Moment.SUBMIT:
            return task.submitted_s
        case Moment.HALFWAY:
            return (task.submitted_s + task.due_s) / 2
        case Moment.END:
            return task.due_s

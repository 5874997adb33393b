"""Whose turn it is: round robin between teams, first come first served within a team.

A team's burst stands behind itself only: whoever joins with one item is served after every other
team has been served once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

from gateway.domain.ids import TeamId

T = TypeVar("T", bound=Hashable)


class FairQueue(Generic[T]):
    """Lines of waiting items, one for each team; the first team in the rotation is served next."""

    def __init__(self) -> None:
        self._lines: OrderedDict[TeamId, OrderedDict[T, None]] = OrderedDict()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[T]:
        """Go over everything that waits, team by team."""
        for line in self._lines.values():
            yield from line

    def push(self, team: TeamId, item: T, *, first: bool = False) -> None:
        """Let an item wait behind its team's others, or before them; a new team comes last."""
        line = self._lines.setdefault(team, OrderedDict())
        line[item] = None
        line.move_to_end(item, last=not first)
        self._length += 1

    def upcoming(self, count: int) -> list[T]:
        """Return the next `count` items in the order they will be served; none of them leaves."""
        order: list[T] = []
        lines = [iter(line) for line in self._lines.values()]
        while lines and len(order) < count:
            lines = [line for line in lines if self._step(line, order)]
        return order[:count]

    @staticmethod
    def _step(line: Iterator[T], order: list[T]) -> bool:
        """Move one item of a line into the order; False when the line is at its end."""
        for item in line:
            order.append(item)
            return True
        return False

    def serve(self, team: TeamId, item: T) -> None:
        """Take an item out and move its team to the end of the rotation; KeyError without it."""
        self.remove(team, item)
        if team in self._lines:
            self._lines.move_to_end(team)

    def remove(self, team: TeamId, item: T) -> None:
        """Take out an item that waits no longer; KeyError without it. Nobody loses a turn."""
        line = self._lines[team]
        del line[item]
        self._length -= 1
        if not line:
            del self._lines[team]

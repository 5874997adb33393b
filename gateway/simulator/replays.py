"""What became of submits with an ``Idempotency-Key`` (protocols/evolink.md §13).

EvoLink does not document this; it is what its first-party client expects.
"""

from dataclasses import dataclass

from gateway.simulator.errors import RefusedError
from gateway.simulator.faults import SUBMIT_FAULTS


@dataclass(slots=True)
class _Entry:
    digest: str
    task_id: str = ""


class Replays:
    """Remember which task a key made; one event loop, so every method is atomic."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}

    def find(self, key: str, digest: str) -> str:
        """Return the id of the task that the same key and body made, or nothing.

        Raises ``RefusedError`` (409) for another body under the key, and while the first submit
        with it is not decided.
        """
        entry = self._entries.get(key)
        if entry is None:
            return ""
        if entry.digest != digest:
            raise RefusedError(SUBMIT_FAULTS["idempotency_conflict"])
        if not entry.task_id:
            raise RefusedError(SUBMIT_FAULTS["paid_outcome_unknown"])
        return entry.task_id

    def open(self, key: str, digest: str) -> None:
        """Note that a submit with a key has arrived and is not decided."""
        self._entries[key] = _Entry(digest)

    def bind(self, key: str, task_id: str) -> None:
        """Note the task that an open submit has made; a key that is not open stays as it is."""
        entry = self._entries.get(key)
        if entry is not None and not entry.task_id:
            entry.task_id = task_id

    def close(self, key: str) -> None:
        """Forget a key whose submit made no task, so that it can be used again."""
        entry = self._entries.get(key)
        if entry is not None and not entry.task_id:
            del self._entries[key]

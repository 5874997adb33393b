"""Identifiers: what they look like and how they are made.

Random parts come in as bytes, so that nothing here reads a random source.
"""

from __future__ import annotations

from typing import NewType

TaskId = NewType("TaskId", str)
TeamId = NewType("TeamId", str)
RequestId = NewType("RequestId", str)

#: Whose books the organization's are: it keeps them as a team does, and no team can be called so.
ORGANIZATION = TeamId("(organization)")

#: Bytes of randomness in every id: 128 bits, never guessed and never repeated.
ID_BYTES = 16

#: Of these, how many the ids of all workers of one parent share; the rest still never repeats.
HOUSE_BYTES = 8


def make_task_id(random_bytes: bytes) -> TaskId:
    """Return ``imgtask_`` and 32 hex digits; it is also the id of the task's hold."""
    return TaskId(f"imgtask_{random_bytes.hex()}")


def make_request_id(random_bytes: bytes) -> RequestId:
    """Return ``req_`` and 32 hex digits, as OpenAI writes it (protocols/openai_images.md §7.1)."""
    return RequestId(f"req_{random_bytes.hex()}")


def make_attempt_id(random_bytes: bytes) -> str:
    """Return ``run_`` and 32 hex digits: one submission, and its idempotency key.

    The form is the one EvoLink's own client sends (protocols/evolink.md §13).
    """
    return f"run_{random_bytes.hex()}"


def make_replica_id(random_bytes: bytes) -> str:
    """Return ``replica_`` and 32 hex digits: one gateway process, new at each start."""
    return f"replica_{random_bytes.hex()}"


def are_siblings(one: str, other: str) -> bool:
    """Tell whether two replicas are workers of one parent: their ids begin alike, by HOUSE_BYTES.

    Such replicas stop together.
    """
    digits = len("replica_") + 2 * HOUSE_BYTES
    return one[:digits] == other[:digits]

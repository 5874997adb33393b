from collections.abc import Callable

import pytest

from gateway.domain.ids import (
    ID_BYTES,
    are_siblings,
    make_attempt_id,
    make_replica_id,
    make_request_id,
    make_task_id,
)


@pytest.mark.parametrize(
    ("make", "prefix"),
    [
        (make_task_id, "imgtask_"),
        (make_request_id, "req_"),
        (make_attempt_id, "run_"),
        (make_replica_id, "replica_"),
    ],
)
def test_ids_are_a_prefix_and_the_bytes_in_hex(make: Callable[[bytes], str], prefix: str) -> None:
    """Every id spells out all of its random bytes, leading zeros too."""
    assert f"{prefix}000f{'ab' * 14}" == make(b"\x00\x0f" + b"\xab" * 14)


def test_ids_are_never_guessed() -> None:
    """Ids carry 128 random bits: 32 hex digits, as OpenAI writes request ids."""
    assert ID_BYTES == 16


def test_siblings_have_ids_that_begin_alike() -> None:
    """Workers of one parent are told apart from replicas elsewhere by half of their ids."""
    first, second = (make_replica_id(b"parent-1" + tail) for tail in (b"worker-1", b"worker-2"))
    other = make_replica_id(b"parent-2" + b"worker-1")

    assert first != second
    assert are_siblings(first, second)
    assert not are_siblings(first, other)

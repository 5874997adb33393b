from collections.abc import Callable

import pytest

from gateway.domain.ids import (
    ID_BYTES,
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

from __future__ import annotations

import json

import pytest

from gateway.domain.ids import TaskId, TeamId
from gateway.domain.images import KeptReference, LinkedReference, PictureFormat, References
from gateway.domain.references import (
    is_reference,
    parse_references,
    reference_key,
    references_said,
)
from gateway.domain.task import picture_key

KEPT = KeptReference("0a" * 32, PictureFormat.WEBP, 12)
LINKED = LinkedReference("https://a.example/a.png")


@pytest.mark.parametrize(
    "references",
    [References((KEPT,)), References((LINKED, KEPT), mask=KEPT), References((KEPT,), mask=LINKED)],
)
def test_a_record_tells_all_of_them(references: References) -> None:
    """In their order, with the mask, through JSON."""
    said = json.loads(json.dumps(references_said(references)))

    assert references == parse_references(said)
    assert [*references.pictures, references.mask][-1] in (*references.all, None)


@pytest.mark.parametrize("said", [{"pictures": None}, {"pictures": [{}]}, {"pictures": ["x"]}])
def test_what_no_record_says(said: dict[str, object]) -> None:
    """An error that a reader of records expects."""
    with pytest.raises((TypeError, ValueError)):
        parse_references(said)


def test_a_record_without_references() -> None:
    """Of a generation, or of an older gateway."""
    assert References() == parse_references({})


def test_a_key_is_a_teams_and_its_bytes() -> None:
    """The same bytes of two teams are two objects; no team's is found under another's name."""
    key = reference_key(TeamId("design"), "0a")

    assert "design/references/0a" == key
    assert is_reference(key)
    assert not is_reference(picture_key(TeamId("references"), TaskId("imgtask_1"), 0))

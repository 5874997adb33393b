from __future__ import annotations

import json
from dataclasses import replace

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


def test_a_record_tells_where_they_are() -> None:
    """Each call's are where it alone looks; a record of an older gateway says nothing of it."""
    placed = replace(KEPT, place="call1")
    said = references_said(References((placed,)))
    [parsed] = parse_references(said).kept
    told = json.loads(json.dumps(said).replace(', "place": "call1"', ""))
    [older] = parse_references(told).kept

    assert ("call1", "", placed) == (parsed.place, older.place, parsed)


def test_those_that_are_kept() -> None:
    """Each once, the mask too; links are not kept."""
    mask = replace(KEPT, digest="0b" * 32)

    assert (KEPT, mask) == References((KEPT, LINKED, KEPT), mask=mask).kept


def test_a_record_without_references() -> None:
    """Of a generation, or of an older gateway."""
    assert References() == parse_references({})


def test_a_key_is_a_teams_and_a_calls() -> None:
    """The same bytes of two calls are two objects; an older gateway's are where it put them."""
    one = KeptReference("0a", PictureFormat.PNG, 1, place="call1")
    key, older = (reference_key(TeamId("design"), each) for each in (one, replace(one, place="")))

    assert ("design/references/call1/0a", "design/references/0a") == (key, older)
    assert is_reference(key)
    assert is_reference(older)
    assert not is_reference(picture_key(TeamId("references"), TaskId("imgtask_1"), 0))

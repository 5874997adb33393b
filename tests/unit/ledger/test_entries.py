from __future__ import annotations

import csv
import io

import orjson
import pytest

from gateway.ledger.entries import (
    CSV_COLUMNS,
    Counters,
    RawEntry,
    UnreadableEntryError,
    Verb,
    csv_row,
    moment_of,
    parse_entry,
    place_of,
    record_of,
)
from tests.support.ledger import (
    BOTH,
    DAY_WINDOW,
    TEAM,
    TOTAL_WINDOW,
    a_hold,
    a_part,
    a_raise,
    a_top_up,
    a_widening,
    an_adjustment,
    an_end,
    an_opening,
    raw,
)

#: 2026-11-23T12:00:00.007Z.
ID = "1795435200007-3"


@pytest.mark.parametrize(
    ("fields", "windows", "change"),
    [
        (an_opening(DAY_WINDOW, 70), (DAY_WINDOW,), Counters(spent_microusd=70)),
        (a_hold("t1", 50), BOTH, Counters(held_microusd=50)),
        (a_raise("t1", 7), BOTH, Counters(held_microusd=7)),
        (an_end("settle", "t1", hold=50, cost=30), BOTH, Counters(30, -50)),
        (an_end("release", "t1", hold=50), BOTH, Counters(held_microusd=-50)),
        (an_end("possible_charge", "t1", hold=50, cost=50), BOTH, Counters(50, -50)),
        (a_raise("t1", 30), BOTH, Counters(held_microusd=30)),
        (a_widening("t1", 50), (TOTAL_WINDOW,), Counters(held_microusd=50)),
        (a_part("t1", "0", hold=50, cost=-3), BOTH, Counters(-3, -50)),
        (an_adjustment("t1", -20), BOTH, Counters(spent_microusd=-20)),
        (a_top_up(900), (TOTAL_WINDOW,), Counters(topped_up_microusd=900)),
        (a_hold("t1", 50, windows=()), (), Counters(held_microusd=50)),
    ],
)
def test_what_an_entry_does(
    fields: dict[str, str], windows: tuple[str, ...], change: Counters
) -> None:
    """Each verb moves its own counters, in the windows it names."""
    entry = parse_entry(raw(fields, ID))

    assert (Verb(fields["verb"]), windows, change) == (entry.verb, entry.windows, entry.change)


def test_what_an_entry_tells() -> None:
    """Who, what, its categories and tokens, and the day its money is summed under."""
    fields = an_end(
        "settle",
        "t1",
        hold=50,
        cost=30,
        categories={"image_output": 25, "text_input": 5},
        tokens={"image_output": 272},
        created_ms=1_795_391_999_999,
    )
    entry = parse_entry(raw(fields | {"user": "9f86d081884c7d65"}, ID))

    assert ("t1:0:end", "t1", "ci", "9f86d081884c7d65") == (
        *(entry.op, entry.task),
        *(entry.key, entry.user),
    )
    assert ("gpt-image-1.5", "evolink", 1) == (entry.model, entry.provider, entry.images)
    assert ({"image_output": 25, "text_input": 5}, {"image_output": 272}) == (
        entry.categories,
        entry.tokens,
    )
    assert (1_795_435_200_007, "20261122") == (entry.at_ms, entry.day)


def test_an_entry_without_a_creation_is_of_its_own_day() -> None:
    """Entries of tasks say when the task was admitted; others are summed when written."""
    entry = parse_entry(raw(a_hold("t1", 50), ID))

    assert (1_795_435_200_007, "20261123", 0) == (entry.created_ms, entry.day, entry.images)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"verb": "double"}, "the verb 'double' is not known here"),
        ({"verb": ""}, "it has no verb"),
        ({"task": ""}, "it has no task"),
        ({"hold": ""}, "it has no hold"),
        ({"cost": "1.5"}, "its cost is no integer"),
        ({"images": "one"}, "its images is no integer"),
        ({"windows": "{}"}, "its windows are no list of texts"),
        ({"windows": "[1]"}, "its windows are no list of texts"),
        ({"windows": "["}, "its windows are no JSON"),
        ({"categories": '{"image_output": 1.5}'}, "its categories are no table of integers"),
        ({"tokens": "[]"}, "its tokens are no table of integers"),
    ],
)
def test_an_entry_that_makes_no_sense(wrong: dict[str, str], reason: str) -> None:
    """What an entry did is never guessed; the error names the entry and the field."""
    fields = an_end("settle", "t1", hold=50, cost=30) | wrong
    with pytest.raises(UnreadableEntryError) as refusal:
        parse_entry(raw(fields, ID))

    assert (f"entry {ID}: {reason}", ID) == (str(refusal.value), refusal.value.entry_id)


def test_places_in_the_stream_order_as_numbers() -> None:
    """Text would put 10 before 9; nothing comes before the first entry."""
    assert [(0, 0), (9, 9), (9, 10), (10, 0)] == sorted(
        place_of(entry_id) for entry_id in ("9-10", "10-0", "", "9-9")
    )
    assert 9 == moment_of("9-10")


def test_an_export_is_typed_and_leaves_nothing_out() -> None:
    """Amounts are integers that name their unit, and unknown fields go along as they are."""
    fields = an_end("settle", "t1", hold=50, cost=30, tokens={"image_output": 272})
    record = record_of(TEAM, raw(fields | {"mood": "good"}, ID))

    assert {
        "id": ID,
        "time": "2026-11-23T12:00:00.007Z",
        "team": "design",
        "verb": "settle",
        "hold_microusd": 50,
        "cost_microusd": 30,
        "categories_microusd": {"image_output": 30},
        "tokens": {"image_output": 272},
        "windows": list(BOTH),
        "mood": "good",
    }.items() <= record.items()
    assert len(fields) + 4 == len(record)


def test_an_export_keeps_what_it_cannot_read() -> None:
    """A field of another form than expected is exported as it was written."""
    record = record_of(TEAM, RawEntry(ID, {"cost": "much", "tokens": "["}))

    assert ("much", "[") == (record["cost_microusd"], record["tokens"])


def test_a_row_has_the_columns_of_the_header() -> None:
    """Tables are JSON in a cell; what has no column is in the last one."""
    fields = an_end("settle", "t1", hold=50, cost=30) | {"mood": "good", "quality": 'a "b", c'}
    file = io.StringIO()
    csv.writer(file).writerows([CSV_COLUMNS, csv_row(record_of(TEAM, raw(fields, ID)))])
    [row] = csv.DictReader(io.StringIO(file.getvalue()))

    assert ("settle", "30", "", 'a "b", c') == (
        *(row["verb"], row["cost_microusd"]),
        *(row["reason"], row["quality"]),
    )
    assert {"image_output": 30} == orjson.loads(row["categories_microusd"])
    assert {"mood": "good"} == orjson.loads(row["more"])


def test_a_row_without_anything_more() -> None:
    """The last column is empty for entries of this version."""
    assert "" == csv_row(record_of(TEAM, raw(a_hold("t1", 50), ID)))[-1]

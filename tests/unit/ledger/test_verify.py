from __future__ import annotations

from collections import Counter
from dataclasses import replace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ledger.checkpoint import NOTHING, OpenHold, fields_of, parse_checkpoint
from gateway.ledger.entries import Counters, RawEntry
from gateway.ledger.rollups import SumKey, parse_sums
from gateway.ledger.verify import WINDOW_KEEP_MS, Finding, Replay, may_be_gone
from tests.support.clock import NOON_MS
from tests.support.ledger import (
    BOTH,
    DAY_WINDOW,
    KEY_WINDOW,
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
    sum_changes,
    window_changes,
)

WINDOWS = (DAY_WINDOW, KEY_WINDOW, TOTAL_WINDOW)
DAY_MS = 86_400_000


def _replay(*entries: dict[str, str]) -> Replay:
    """Replay entries that were written a second apart, from noon."""
    replay = Replay(NOTHING)
    for index, fields in enumerate(entries):
        replay.apply(raw(fields, f"{NOON_MS + index * 1000}-0"))
    return replay


@st.composite
def histories(draw: st.DrawFn) -> list[RawEntry]:
    """Draw valid books: holds of several renders end at most once, in any order, over days."""
    entries: list[RawEntry] = []
    open_holds: dict[tuple[str, int], dict[str, str]] = {}
    possible: list[str] = []
    moment_ms = NOON_MS
    for index in range(draw(st.integers(1, 30))):
        moment_ms += draw(st.integers(0, DAY_MS // 4))
        verbs = ["hold", "hold", "raise", "widen", "end", "end", "adjust", "top_up", "open"]
        verb = draw(st.sampled_from(verbs))
        amount = draw(st.integers(0, 10**9))
        if verb == "end" and open_holds:
            task, render = draw(st.sampled_from(sorted(open_holds)))
            fields = _end(draw, open_holds.pop((task, render)))
            if fields["verb"] == "possible_charge":
                possible.append(task)
        elif verb == "raise" and open_holds:
            task, render = draw(st.sampled_from(sorted(open_holds)))
            held = open_holds[task, render]
            windows = orjson.loads(held["windows"])
            fields = a_raise(task, amount, windows, render=render)
            open_holds[task, render] = held | {"amount": str(int(held["amount"]) + amount)}
        elif verb == "widen" and (narrow := _narrow(open_holds)):
            task, render = draw(st.sampled_from(narrow))
            held = open_holds[task, render]
            windows = orjson.loads(held["windows"])
            more = draw(st.sampled_from([one for one in WINDOWS if one not in windows]))
            fields = a_widening(task, int(held["amount"]), (more,), render=render)
            open_holds[task, render] = held | {"windows": orjson.dumps([*windows, more]).decode()}
        elif verb == "adjust" and possible:
            fields = an_adjustment(draw(st.sampled_from(possible)), amount, op=str(index))
        elif verb == "top_up":
            fields = a_top_up(amount, op=str(index))
        elif verb == "open":
            fields = an_opening(draw(st.sampled_from(WINDOWS)), amount)
        else:
            windows = draw(st.lists(st.sampled_from(WINDOWS), unique=True))
            # Holds of one task stand beside each other, as those of several pictures do.
            task, render = f"t{index % 3}", index
            fields = a_hold(task, amount, windows, render=render)
            open_holds[task, render] = fields | {"created_ms": str(moment_ms)}
        entries.append(raw(fields, f"{moment_ms}-{index}"))
    return entries


def _narrow(holds: dict[tuple[str, int], dict[str, str]]) -> list[tuple[str, int]]:
    """Return the holds that are not in all windows."""
    wide = len(WINDOWS)
    return sorted(name for name, held in holds.items() if len(orjson.loads(held["windows"])) < wide)


def _end(draw: st.DrawFn, hold: dict[str, str]) -> dict[str, str]:
    verb = draw(st.sampled_from(["settle", "release", "possible_charge"]))
    first, second = draw(st.integers(0, 10**6)), draw(st.integers(0, 10**6))
    parts = {} if verb == "release" else {"image_output": first, "text_input": second}
    fields = an_end(
        verb,
        hold["task"],
        render=int(hold["render"]),
        hold=int(hold["amount"]),
        cost=sum(parts.values()),
        categories=parts,
        tokens={"image_output": second},
        created_ms=int(hold["created_ms"]),
    )
    return fields | {"windows": hold["windows"]}


def _counters(entries: list[RawEntry]) -> dict[str, Counters]:
    """Count by hand what every window must show."""
    counts: Counter[tuple[str, str]] = Counter()
    for entry in entries:
        for window, name, change in window_changes(entry.fields):
            counts[window, name] += change
    return {
        window: Counters(
            counts[window, "spent"], counts[window, "held"], counts[window, "topped_up"]
        )
        for window in WINDOWS
    }


def _days(entries: list[RawEntry]) -> dict[str, dict[SumKey, int]]:
    """Sum up by hand what every day must show."""
    days: dict[str, dict[str, int]] = {}
    for entry in entries:
        for day, name, change in sum_changes(entry.fields, entry.id):
            sums = days.setdefault(day, {})
            sums[name] = sums.get(name, 0) + change
    return {
        day: parse_sums({name: str(value) for name, value in sums.items()})
        for day, sums in days.items()
    }


def _findings(
    replay: Replay, windows: dict[str, Counters], days: dict[str, dict[SumKey, int]]
) -> list[Finding]:
    found = list(replay.findings)
    for key, counters in windows.items():
        found += replay.window_findings(key, counters, now_ms=NOON_MS)
    for day in replay.days | days.keys():
        found += replay.rollup_findings(day, days.get(day, {}), now_ms=NOON_MS)
    return found


@given(histories())
def test_valid_books_agree(entries: list[RawEntry]) -> None:
    """Whatever happened in whatever order, what was counted on the way is what comes out."""
    replay = Replay(NOTHING)
    for entry in entries:
        replay.apply(entry)

    assert [] == _findings(replay, _counters(entries), _days(entries))
    assert (entries[-1].id, len(entries), True) == (replay.last, replay.entries, replay.complete)


@given(histories(), st.data())
def test_a_checkpoint_stands_in_for_what_was_before(
    entries: list[RawEntry], data: st.DataObject
) -> None:
    """Trimmed anywhere, and any number of times, the books still agree."""
    cuts = set(data.draw(st.lists(st.integers(1, len(entries)), max_size=3)))
    replay = Replay(NOTHING)
    for index, entry in enumerate(entries, 1):
        replay.apply(entry)
        if index in cuts:
            replay = Replay(parse_checkpoint(dict(fields_of(replay.checkpoint()))))

    assert [] == _findings(replay, _counters(entries), _days(entries))


@given(
    histories(),
    st.sampled_from(WINDOWS),
    st.sampled_from(["spent", "held", "topped_up"]),
    st.integers().filter(bool),
)
def test_one_wrong_counter_is_one_finding(
    entries: list[RawEntry], window: str, name: str, error: int
) -> None:
    """Exactly the counter that was changed is told, and nothing else."""
    replay = Replay(NOTHING)
    for entry in entries:
        replay.apply(entry)
    counters = _counters(entries)
    field = f"{name}_microusd"
    wrong = replace(counters[window], **{field: getattr(counters[window], field) + error})
    [finding] = _findings(replay, counters | {window: wrong}, _days(entries))

    assert window == finding.where
    assert finding.what.startswith(f"{name} is $")


def test_a_finding_tells_both_amounts() -> None:
    """What is counted, and what the ledger says, as decimal dollars."""
    replay = _replay(a_hold("t1", 50_000), an_end("settle", "t1", hold=50_000, cost=30_000))
    [finding] = replay.window_findings(DAY_WINDOW, Counters(-10_000), now_ms=NOON_MS)

    assert f"{DAY_WINDOW}: spent is $-0.01, by the ledger $0.03" == str(finding)


def test_a_window_that_was_never_touched_must_be_empty() -> None:
    """Money that no entry tells of is a difference."""
    replay = _replay(a_hold("t1", 50, windows=(DAY_WINDOW,)))

    assert [] == replay.window_findings(KEY_WINDOW, Counters(), now_ms=NOON_MS)
    assert ["held is $0.00005, by the ledger $0.00"] == [
        finding.what
        for finding in replay.window_findings(KEY_WINDOW, Counters(0, 50), now_ms=NOON_MS)
    ]


def test_a_window_that_is_gone_too_early() -> None:
    """Lost counters are differences until the time at which they expire."""
    replay = _replay(a_hold("t1", 50))
    start_ms = int(DAY_WINDOW.rpartition(":")[2])
    late_ms = start_ms + WINDOW_KEEP_MS

    assert 1 == len(replay.window_findings(DAY_WINDOW, None, now_ms=late_ms))
    assert [] == replay.window_findings(DAY_WINDOW, None, now_ms=late_ms + 1)
    assert 1 == len(replay.window_findings(DAY_WINDOW, Counters(), now_ms=late_ms + 1))


@pytest.mark.parametrize(
    ("key", "gone"), [(DAY_WINDOW, True), (TOTAL_WINDOW, False), ("{t:design}:budget:x", False)]
)
def test_a_total_is_never_gone(key: str, gone: bool) -> None:
    """Nor is what this version cannot date."""
    assert gone is may_be_gone(key, NOON_MS + 100 * DAY_MS)


def test_one_wrong_sum_is_one_finding() -> None:
    """It names the day, whose sum it is, and both values."""
    entries = [a_hold("t1", 50), an_end("settle", "t1", hold=50, cost=30)]
    cost = SumKey("ci", "gpt-image-1.5", "evolink", "cost")
    sums = _days([raw(entries[1], f"{NOON_MS}-0")])["20261123"]
    [finding] = _replay(*entries).rollup_findings("20261123", sums | {cost: 31}, now_ms=NOON_MS)

    assert "rollup 20261123 ci/gpt-image-1.5/evolink/cost: is 31, by the ledger 30" == str(finding)


def test_sums_that_nobody_entered_are_found() -> None:
    """Also those of a day without entries; measures that are not known here are passed over."""
    sums = {
        SumKey("ci", "m", "p", "images"): 2,
        SumKey("ci", "m", "p", "mood"): 9,
        SumKey("ci", "m", "p", "cost"): 0,
    }
    found = _replay(a_hold("t1", 50)).rollup_findings("20261101", sums, now_ms=NOON_MS)

    assert ["is 2, by the ledger 0"] == [finding.what for finding in found]


def test_sums_that_have_expired_are_not_missed() -> None:
    """A day is kept for 400 days; after that its absence says nothing."""
    entries = (a_hold("t1", 50), an_end("settle", "t1", hold=50, cost=30))
    replay = _replay(*entries)

    assert 3 == len(replay.rollup_findings("20261123", {}, now_ms=NOON_MS + 400 * DAY_MS))
    assert [] == replay.rollup_findings("20261123", {}, now_ms=NOON_MS + 401 * DAY_MS)


@pytest.mark.parametrize(
    ("entries", "what"),
    [
        ([a_hold("t1", 5), a_hold("t1", 5)], "t1:0 is held a second time"),
        ([an_end("release", "t1", hold=5)], "t1:0 ends without an open hold"),
        (
            [a_hold("t1", 5), *[an_end("settle", "t1", hold=5, cost=3)] * 2],
            "t1:0 ends without an open hold",
        ),
        (
            [a_hold("t1", 5), an_end("release", "t1", hold=4)],
            "t1:0 takes back another hold than it had",
        ),
        (
            [a_hold("t1", 5), an_end("release", "t1", hold=5, windows=(DAY_WINDOW,))],
            "t1:0 takes back another hold than it had",
        ),
        (
            [a_hold("t1", 5), an_end("settle", "t1", hold=5, cost=3, categories={"a": 2})],
            "the categories add up to $0.000002, the cost is $0.000003",
        ),
        (
            [a_hold("t1", 5), a_hold("t1", 5, render=1), a_hold("t1", 5, render=1)],
            "t1:1 is held a second time",
        ),
        (
            [a_hold("t1", 5), an_end("release", "t1", hold=5, render=1)],
            "t1:1 ends without an open hold",
        ),
        ([a_raise("t1", 5)], "t1:0 has no open hold to change"),
        ([a_hold("t1", 5), a_raise("t1", 5, render=1)], "t1:1 has no open hold to change"),
        (
            [a_hold("t1", 5), a_raise("t1", 5, windows=(DAY_WINDOW,))],
            "t1:0 changes another hold than it had",
        ),
        (
            [a_hold("t1", 5), a_raise("t1", 2), an_end("release", "t1", hold=5)],
            "t1:0 takes back another hold than it had",
        ),
        ([a_widening("t1", 5)], "t1:0 has no open hold to widen"),
        (
            [a_hold("t1", 5), a_raise("t1", 2), a_widening("t1", 5)],
            "t1:0 is widened by another amount than it holds",
        ),
        (
            [a_hold("t1", 5), a_widening("t1", 5, (KEY_WINDOW,))],
            "t1:0 is held in a window a second time",
        ),
        (
            [a_hold("t1", 5), a_widening("t1", 5), an_end("release", "t1", hold=5)],
            "t1:0 takes back another hold than it had",
        ),
        (
            [
                a_hold("t1", 5),
                a_widening("t1", 5),
                an_end("release", "t1", hold=4, windows=(*BOTH, TOTAL_WINDOW)),
            ],
            "t1:0 takes back another hold than it had",
        ),
        (
            [a_hold("t1", 5), a_widening("t1", 5), a_raise("t1", 2)],
            "t1:0 changes another hold than it had",
        ),
        ([a_part("t1", "0", hold=5)], "t1:0 has no open hold to change"),
        ([a_hold("t1", 5), a_part("t1", "0", hold=6)], "t1:0 changes another hold than it had"),
        (
            [a_hold("t1", 5), a_part("t1", "0", hold=4, windows=(DAY_WINDOW,))],
            "t1:0 changes another hold than it had",
        ),
        (
            [a_hold("t1", 5), a_part("t1", "0", hold=5), an_end("release", "t1", hold=0)],
            "t1:0 ends without an open hold",
        ),
        ([an_adjustment("t1", 1), an_adjustment("t1", 1)], "adjust:1 is booked a second time"),
        ([a_top_up(1), a_top_up(1)], "top_up:1 is booked a second time"),
    ],
)
def test_entries_that_contradict_each_other(entries: list[dict[str, str]], what: str) -> None:
    """A hold ends at most once, takes back what it was, and its parts are its cost."""
    last = f"{NOON_MS + (len(entries) - 1) * 1000}-0"
    replay = _replay(*entries)

    assert [Finding(f"entry {last}", what)] == replay.findings
    assert replay.complete


def test_a_hold_in_parts() -> None:
    """It may be raised, and is given back share by share; what is left can be released."""
    replay = _replay(
        a_hold("t1", 5),
        a_raise("t1", 3),
        a_part("t1", "0", hold=6, cost=9),
        a_part("t1", "adjust:1", hold=0, cost=-2),
        an_end("release", "t1", hold=2),
        a_part("t1", "1", hold=0, cost=4),
    )

    assert ([], {}, frozenset()) == (replay.findings, replay.open_holds, replay.days)
    assert Counters(11) == replay.windows[DAY_WINDOW]


def test_a_hold_that_is_widened() -> None:
    """It is raised and ends in all of its windows, also after a checkpoint."""
    before = _replay(a_hold("t1", 5), a_widening("t1", 5))
    replay = Replay(parse_checkpoint(dict(fields_of(before.checkpoint()))))
    windows = (*BOTH, TOTAL_WINDOW)
    later = [a_raise("t1", 3, windows), an_end("settle", "t1", hold=8, cost=6, windows=windows)]
    for index, fields in enumerate(later):
        replay.apply(raw(fields, f"{NOON_MS + 9_000 + index}-0"))

    assert OpenHold(5, windows, NOON_MS) == before.open_holds["t1:0"]
    assert ([], {}) == (replay.findings, replay.open_holds)
    assert {Counters(6)} == {replay.windows[window] for window in windows}


def test_what_is_left_of_a_hold_is_open() -> None:
    """A checkpoint keeps it, not what was reserved."""
    replay = _replay(a_hold("t1", 5), a_part("t1", "0", hold=2, cost=1))

    assert 3 == replay.checkpoint().holds["t1:0"].amount_microusd


def test_an_entry_that_cannot_be_read() -> None:
    """Its effect is unknown, so nothing more can be said of counters; it is told which."""
    replay = _replay({"verb": "double"}, a_hold("t1", 5))

    assert [f"entry {NOON_MS}-0: the verb 'double' is not known here"] == [
        str(finding) for finding in replay.findings
    ]
    assert not replay.complete
    assert 2 == replay.entries


def test_a_checkpoint_keeps_what_can_still_change() -> None:
    """Open holds, windows that are not zero, and the days that ends may still add to."""
    replay = _replay(
        a_hold("t1", 50),
        a_hold("t2", 15, windows=(TOTAL_WINDOW,)),
        a_raise("t2", 5, windows=(TOTAL_WINDOW,)),
        an_end("settle", "t1", hold=50, cost=30, created_ms=NOON_MS - 3 * DAY_MS),
        a_hold("t3", 1),
        an_end("release", "t3", hold=1),
    )
    checkpoint = replay.checkpoint(without=frozenset({KEY_WINDOW}))

    assert (f"{NOON_MS + 5000}-0", "20261122") == (checkpoint.last, checkpoint.from_day)
    assert {DAY_WINDOW: Counters(30), TOTAL_WINDOW: Counters(0, 20)} == checkpoint.windows
    assert {"t2:0": OpenHold(20, (TOTAL_WINDOW,), NOON_MS + 1000)} == checkpoint.holds
    assert {} == checkpoint.days


def test_days_before_a_checkpoint_are_closed() -> None:
    """Their entries are gone, so nothing is said about them, nor added to them."""
    later = Replay(replace(_replay(a_hold("t1", 50)).checkpoint(), from_day="20261123"))
    early_ms = NOON_MS - DAY_MS
    later.apply(
        raw(an_end("settle", "t1", hold=50, cost=30, created_ms=early_ms), f"{NOON_MS + 1}-0")
    )
    sums = {SumKey("ci", "m", "p", "cost"): 5}

    assert (frozenset(), []) == (later.days, later.findings)
    assert [] == later.rollup_findings("20261122", sums, now_ms=NOON_MS)
    assert 1 == len(later.rollup_findings("20261123", sums, now_ms=NOON_MS))


def test_a_closed_day_stays_closed() -> None:
    """A later checkpoint never opens a day again."""
    replay = Replay(replace(NOTHING, last="1-0", from_day="20270101"))
    replay.apply(raw(a_hold("t1", 50, BOTH), f"{NOON_MS}-0"))

    assert "20270101" == replay.checkpoint().from_day
    assert BOTH == tuple(replay.windows)
    assert ["t1:0"] == list(replay.open_holds)

import re

import pytest

from gateway.domain.ids import ORGANIZATION, TaskId, TeamId
from gateway.store.keyspace import (
    account_key,
    active_teams_key,
    adjustments_key,
    budget_window_key,
    callback_key,
    callback_secret_key,
    callbacks_key,
    calls_key,
    checkpoint_key,
    claim_key,
    day_quota_key,
    idempotency_key,
    in_flight_key,
    latency_key,
    ledger_key,
    live_key,
    opened_key,
    organization_hold_key,
    organization_holds_key,
    organization_settled_key,
    orphans_key,
    outbox_key,
    owners_key,
    pace_key,
    permits_key,
    picture_place_key,
    poll_rate_key,
    rate_key,
    refused_key,
    replicas_key,
    rollup_key,
    spent_month_key,
    spent_total_key,
    staged_checkpoint_key,
    task_key,
    tasks_key,
    tombstone_key,
    turns_key,
    unfetched_awaited_key,
    unfetched_ends_key,
    unfetched_key,
    waits_key,
    wake_key,
)

TEAM, TASK = TeamId("design"), TaskId("imgtask_1")

KEYS = [
    (task_key(TEAM, TASK), "{t:design}:task:imgtask_1"),
    (live_key(TEAM, ""), "{t:design}:live:"),
    (live_key(TEAM, "replica_1"), "{t:design}:live:replica_1"),
    (owners_key(TEAM), "{t:design}:owners"),
    (tasks_key(TEAM), "{t:design}:tasks"),
    (unfetched_key(TEAM), "{t:design}:unfetched"),
    (unfetched_ends_key(TEAM), "{t:design}:unfetched:ends"),
    (unfetched_awaited_key(TEAM), "{t:design}:unfetched:awaited"),
    (calls_key(TEAM, "f00d"), "{t:design}:calls:f00d"),
    (orphans_key(TEAM, "f00d"), "{t:design}:orphans:f00d"),
    (refused_key(TEAM, "f00d"), "{t:design}:refusals:f00d"),
    (waits_key(TEAM, "f00d"), "{t:design}:waits:f00d"),
    (idempotency_key(TEAM, "f00d"), "{t:design}:idempotency:f00d"),
    (tombstone_key(TEAM, TASK), "{t:design}:tombstone:imgtask_1"),
    (
        budget_window_key(TEAM, "team", "", "day", 1_795_392_000_000),
        "{t:design}:budget:team::day:1795392000000",
    ),
    (
        budget_window_key(TEAM, "key", "ci", "day", 1_795_392_000_000),
        "{t:design}:budget:key:ci:day:1795392000000",
    ),
    (in_flight_key(TEAM), "{t:design}:in_flight"),
    (opened_key(TEAM, "key", "ci"), "{t:design}:opened:key:ci"),
    (rate_key(TEAM, "requests"), "{t:design}:rate:requests"),
    (day_quota_key(TEAM, 1_795_392_000_000), "{t:design}:images_of_day:1795392000000"),
    (rollup_key(TEAM, "20261123"), "{t:design}:rollup:20261123"),
    (spent_month_key(TEAM, "202611"), "{t:design}:spent:202611"),
    (spent_total_key(TEAM), "{t:design}:spent:total"),
    (account_key(TEAM), "{t:design}:account"),
    (checkpoint_key(TEAM), "{t:design}:ledger:checkpoint"),
    (staged_checkpoint_key(TEAM, "a1"), "{t:design}:ledger:checkpoint:a1"),
    (adjustments_key(TEAM), "{t:design}:ledger:adjustments"),
    (ledger_key(TEAM), "{t:design}:ledger"),
    (callbacks_key(TEAM), "{t:design}:callbacks"),
    (callback_key(TEAM, "evt_1"), "{t:design}:callback:evt_1"),
    (callback_secret_key(TEAM), "{t:design}:callback_secret"),
    (outbox_key(TEAM), "{t:design}:outbox"),
]

#: What is no team's: who the replicas are, where recovery looks, what upstreams call their tasks.
KEYS_OF_NO_TEAM = [
    (picture_place_key("replica_1"), "picture_place:{replica_1}"),
    (replicas_key(), "replicas"),
    (active_teams_key(), "teams:active"),
    (wake_key("replica_1"), "wake:{replica_1}"),
    (claim_key("evolink:1", "task-1"), "claim:{evolink:1}:task-1"),
]


ACCOUNT_KEYS = [
    (permits_key("evolink"), "{a:evolink}:permits"),
    (pace_key("evolink"), "{a:evolink}:pace"),
    (turns_key("evolink"), "{a:evolink}:turns"),
]

ORGANIZATION_KEYS = [
    (organization_hold_key(TASK), "{org}:hold:imgtask_1"),
    (organization_holds_key(), "{org}:holds"),
    (organization_settled_key(), "{org}:settled"),
    (
        budget_window_key(ORGANIZATION, "organization", "", "month", 1_793_491_200_000),
        "{org}:budget:organization::month:1793491200000",
    ),
    (spent_month_key(ORGANIZATION, "202611"), "{org}:spent:202611"),
    (spent_total_key(ORGANIZATION), "{org}:spent:total"),
    (rollup_key(ORGANIZATION, "20261123"), "{org}:rollup:20261123"),
    (checkpoint_key(ORGANIZATION), "{org}:ledger:checkpoint"),
    (staged_checkpoint_key(ORGANIZATION, "a1"), "{org}:ledger:checkpoint:a1"),
    (ledger_key(ORGANIZATION), "{org}:ledger"),
]


@pytest.mark.parametrize(
    ("key", "expected"), [*KEYS, *KEYS_OF_NO_TEAM, *ACCOUNT_KEYS, *ORGANIZATION_KEYS]
)
def test_keys(key: str, expected: str) -> None:
    """Keys are part of what is stored: changing one loses money that is held under it."""
    assert expected == key


def test_keys_of_a_team_share_one_slot() -> None:
    """All keys of a team carry its hash tag, so that one script may touch them on a cluster."""
    tags = {re.findall(r"\{(.*?)\}", key)[0] for key, _ in KEYS}

    assert {"t:design"} == tags


def test_keys_of_an_upstream_account_share_one_slot() -> None:
    """All keys of an account carry its hash tag, and none of a team's."""
    tags = {re.findall(r"\{(.*?)\}", key)[0] for key, _ in ACCOUNT_KEYS}

    assert {"a:evolink"} == tags


def test_keys_of_the_organization_share_another_slot() -> None:
    """Its purse changes in one script, too, whichever teams there are."""
    tags = {re.findall(r"\{(.*?)\}", key)[0] for key, _ in ORGANIZATION_KEYS}

    assert {"org"} == tags


def test_no_two_things_share_a_key() -> None:
    """Different things of a team have different keys."""
    assert len(KEYS) == len({key for key, _ in KEYS})


def test_what_is_learned_has_a_slot_for_each_class() -> None:
    """Classes and accounts are spread over a cluster; no team is part of them."""
    learned = latency_key("evolink|gpt-image-1.5|generation|low|1k")

    assert "latency:{evolink|gpt-image-1.5|generation|low|1k}" == learned
    assert "poll_rate:{evolink}" == poll_rate_key("evolink")

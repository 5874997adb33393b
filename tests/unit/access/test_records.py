from __future__ import annotations

import json
from dataclasses import replace

import pytest

from gateway.access.records import (
    SCHEMA,
    FormerSecret,
    KeyRecord,
    KeyState,
    account_from,
    key_field,
    tell_key,
    write_key,
    write_team,
)
from gateway.domain.errors import StoreUnavailable
from gateway.domain.ids import TeamId

TEAM = TeamId("ops")
RECORD = KeyRecord(
    digest=b"\x01" * 32,
    prefix="gw-ops-AbCd…",
    created_ms=1,
    terms={"models": ["gpt-image-*"]},
    expires_ms=9,
    former=(FormerSecret(b"\x02" * 32, "gw-ops-Zyxw…", 5),),
)


def test_a_key_comes_back_as_it_was_written() -> None:
    """Digests, terms, times and former secrets survive the store."""
    fields = {
        "version": "7",
        "team": write_team({"models": ["*"]}),
        key_field("ci"): write_key(RECORD),
    }
    account = account_from(TEAM, fields)

    assert ("7", {"models": ["*"]}, {"ci": RECORD}) == (
        account.version,
        account.table,
        account.keys,
    )


def test_what_may_be_told_holds_no_digest() -> None:
    """Neither the key's digest nor a former one is in what an audit or a list shows."""
    told = json.dumps(tell_key(RECORD))

    assert "01" * 32 not in told
    assert "02" * 32 not in told
    assert "gw-ops-AbCd" in told


def test_unknown_fields_are_kept_and_newer_releases_refused() -> None:
    """The next schema is read and its fields carried along; one beyond it is not guessed at."""
    newer = json.loads(write_key(RECORD)) | {"schema": SCHEMA + 1, "colour": "blue"}
    account = account_from(TEAM, {key_field("ci"): json.dumps(newer)})
    too_new = json.dumps(newer | {"schema": SCHEMA + 2})

    assert "blue" == account.keys["ci"].terms["colour"]
    with pytest.raises(StoreUnavailable):
        account_from(TEAM, {key_field("ci"): too_new})


def test_rotation_keeps_what_still_opens() -> None:
    """The secret it had becomes a former one; those whose time is over are dropped."""
    rotated = RECORD.rotated(b"\x03" * 32, "gw-ops-New1…", now_ms=6, grace_ms=10)

    assert (FormerSecret(b"\x01" * 32, "gw-ops-AbCd…", 16),) == rotated.former
    assert (b"\x03" * 32, "gw-ops-New1…") == (rotated.digest, rotated.prefix)


def test_ends() -> None:
    """A revoked key is no active one, and a key expires at its very millisecond."""
    assert KeyState.REVOKED is RECORD.revoked().state
    assert (False, True) == (RECORD.expired(8), RECORD.expired(9))
    assert not replace(RECORD, expires_ms=None).expired(10**15)

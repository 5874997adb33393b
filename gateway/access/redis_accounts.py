"""Accounts on Redis or Valkey: one hash for each team, changed by one script."""

from __future__ import annotations

import json
from typing import Any

from gateway.access.interface import AccountMovedError, Amendment, AuditEntry
from gateway.access.records import Account, account_from
from gateway.domain.accounts import NO_VERSION
from gateway.domain.ids import TeamId
from gateway.store.client import Reply, Store
from gateway.store.keyspace import account_key, audit_key, teams_index_key
from gateway.store.replies import fields_of, list_of, text_of, texts_of
from gateway.store.scripts import load_script


class RedisAccounts:
    """Implements `Accounts`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._amend = load_script("access/lua/amend.lua")

    async def version(self, team: TeamId) -> str:
        """Return the version of a team's account."""
        reply = await self._store.command("HGET", account_key(team), "version")
        return NO_VERSION if reply is None else text_of(reply)

    async def load(self, team: TeamId) -> Account:
        """Return a team's account as it is in one moment."""
        reply = await self._store.command("HGETALL", account_key(team))
        return account_from(team, fields_of(reply))

    async def teams(self) -> frozenset[TeamId]:
        """Return the teams made at run time."""
        names = await self._store.command("SMEMBERS", teams_index_key())
        return frozenset(TeamId(name) for name in texts_of(names))

    async def enter(self, team: TeamId) -> None:
        """Note a team in the index."""
        await self._store.command("SADD", teams_index_key(), team)

    async def amend(self, amendment: Amendment) -> str:
        """Make one change, with its audit entry."""
        entry = {
            "who": amendment.who,
            "what": amendment.what,
            "key": amendment.key,
            "before": amendment.before,
            "after": amendment.after,
        }
        reply = await self._store.run(
            self._amend,
            [account_key(amendment.team), audit_key(amendment.team)],
            [
                amendment.version,
                amendment.field,
                amendment.text,
                *(word for pair in entry.items() for word in pair),
            ],
        )
        outcome, version = list_of(reply)
        if outcome != b"done":
            raise AccountMovedError(amendment.team)
        return text_of(version)

    async def audit(self, team: TeamId, *, count: int) -> tuple[AuditEntry, ...]:
        """Return the newest entries, newest first."""
        reply = await self._store.command("XREVRANGE", audit_key(team), "+", "-", "COUNT", count)
        # The client makes pairs of entries, which no other answer has.
        entries: list[Any] = list_of(reply)
        return tuple(_entry(entry_id, told) for entry_id, told in entries)


def _entry(entry_id: Reply, told: Reply) -> AuditEntry:
    fields = fields_of(told)
    return AuditEntry(
        id=text_of(entry_id),
        at_ms=int(text_of(entry_id).partition("-")[0]),
        who=fields["who"],
        what=fields["what"],
        key=fields["key"],
        before=_object(fields["before"]),
        after=_object(fields["after"]),
    )


def _object(text: str) -> dict[str, Any] | None:
    loaded: dict[str, Any] | None = json.loads(text) if text else None
    return loaded

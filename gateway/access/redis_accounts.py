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
from gateway.store.scripts import load_script


class RedisAccounts:
    """Implements `Accounts`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._amend = load_script("access/lua/amend.lua")

    async def version(self, team: TeamId) -> str:
        """Return the version of a team's account."""
        reply = await self._store.command("HGET", account_key(team), "version")
        return NO_VERSION if reply is None else _text(reply)

    async def load(self, team: TeamId) -> Account:
        """Return a team's account as it is in one moment."""
        return account_from(team, _fields(await self._store.command("HGETALL", account_key(team))))

    async def teams(self) -> frozenset[TeamId]:
        """Return the teams made at run time."""
        names = await self._store.command("SMEMBERS", teams_index_key())
        if not isinstance(names, set):
            raise TypeError("SMEMBERS answers a set")
        return frozenset(TeamId(_text(name)) for name in names)

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
        outcome, version = _list(reply)
        if outcome != b"done":
            raise AccountMovedError(amendment.team)
        return _text(version)

    async def audit(self, team: TeamId, *, count: int) -> tuple[AuditEntry, ...]:
        """Return the newest entries, newest first."""
        reply = await self._store.command("XREVRANGE", audit_key(team), "+", "-", "COUNT", count)
        return tuple(_entry(entry_id, told) for entry_id, told in _list(reply))


def _entry(entry_id: Reply, told: Reply) -> AuditEntry:
    fields = _fields(told)
    return AuditEntry(
        id=_text(entry_id),
        at_ms=int(_text(entry_id).partition("-")[0]),
        who=fields["who"],
        what=fields["what"],
        key=fields["key"],
        before=_object(fields["before"]),
        after=_object(fields["after"]),
    )


def _object(text: str) -> dict[str, Any] | None:
    loaded: dict[str, Any] | None = json.loads(text) if text else None
    return loaded


def _fields(reply: Reply) -> dict[str, str]:
    if not isinstance(reply, dict):
        raise TypeError("the store answers names and values here")
    return {_text(name): _text(value) for name, value in reply.items()}


def _list(reply: Reply) -> list[Any]:
    if not isinstance(reply, list):
        raise TypeError("the store answers a list here")
    return reply


def _text(reply: Reply) -> str:
    if not isinstance(reply, bytes):
        raise TypeError("the store answers text here")
    return reply.decode()

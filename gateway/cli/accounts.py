"""What the commands that change teams and keys share: the store open, and refusals as lines."""

from __future__ import annotations

import getpass
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from gateway.access.redis_accounts import RedisAccounts
from gateway.background import SystemClock
from gateway.cli.books import on_settings
from gateway.cli.opened_store import opened_store
from gateway.config.load import Loaded
from gateway.service.admin import Admin
from gateway.store.client import Store

T = TypeVar("T")


def with_admin(config: Path, work: Callable[[Admin], Awaitable[T]]) -> T:
    """Run a command's work on the accounts of the store that the settings name."""

    async def on_accounts(loaded: Loaded, store: Store) -> T:
        return await work(admin_of(loaded, store))

    return with_store(config, on_accounts)


def with_store(config: Path, work: Callable[[Loaded, Store], Awaitable[T]]) -> T:
    """Run a command's work on the store that the settings name, as `on_settings`."""

    async def on_store(loaded: Loaded) -> T:
        async with opened_store(loaded) as store:
            return await work(loaded, store)

    return on_settings(config, on_store)


def admin_of(loaded: Loaded, store: Store) -> Admin:
    """Return what changes the accounts in this store."""
    return Admin(RedisAccounts(store), loaded.settings.teams, SystemClock(), secrets.token_bytes)


def operator() -> str:
    """Return who an audit entry names for a command: the user of this machine."""
    # A container may run as a user id that has no name.
    with suppress(OSError, KeyError):
        return f"cli:{getpass.getuser()}"
    return "cli"

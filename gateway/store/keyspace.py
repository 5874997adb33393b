"""Every key in the store, as a function.

All keys of a team share the hash tag ``{t:<team>}``: a hold, its settlement and the task's record
change in one script, also on a cluster (design decision 5). The organization's keys have a slot of
their own, ``{org}``; books may belong to a team or to it.
"""

from __future__ import annotations

from gateway.domain.ids import ORGANIZATION, TaskId, TeamId


def _slot(owner: TeamId) -> str:
    """Return the hash tag of whoever keeps books: a team's, or the organization's own."""
    return "{org}" if owner == ORGANIZATION else f"{{t:{owner}}}"


def task_key(team: TeamId, task: TaskId) -> str:
    """Name the hash of one task's record and its hold; expires after it is over."""
    return f"{{t:{team}}}:task:{task}"


def live_key(team: TeamId) -> str:
    """Name the sorted set of the team's unfinished tasks by creation (Unix ms)."""
    return f"{{t:{team}}}:live"


def tombstone_key(team: TeamId, task: TaskId) -> str:
    """Name the string that says this id was given up; expires in an hour."""
    return f"{{t:{team}}}:tombstone:{task}"


def in_flight_key(team: TeamId) -> str:
    """Name the sorted set of the team's tasks that hold money, by their number of images."""
    return f"{{t:{team}}}:in_flight"


def budget_window_key(team: TeamId, scope: str, owner: str, budget: str, start_ms: int) -> str:
    """Name the hash with `spent` and `held` in micro-dollars of one budget in one window.

    `owner` is empty for the team, a key's name, or an end user's hash. Expires some time after the
    window's end; a total never does.
    """
    return f"{_slot(team)}:budget:{scope}:{owner}:{budget}:{start_ms}"


def rate_key(team: TeamId, resource: str) -> str:
    """Name the string with the moment a per-minute quota is whole again; expires by then."""
    return f"{{t:{team}}}:rate:{resource}"


def day_quota_key(team: TeamId, start_ms: int) -> str:
    """Name the counter of images admitted in a day; expires a day after it."""
    return f"{{t:{team}}}:images_of_day:{start_ms}"


def rollup_key(team: TeamId, day: str) -> str:
    """Name the hash of sums of a UTC day (YYYYMMDD), by key, model, provider and measure.

    Expires after 400 days.
    """
    return f"{_slot(team)}:rollup:{day}"


def spent_month_key(team: TeamId, month: str) -> str:
    """Name the hash of what was spent in each quarter of an hour of a UTC month (YYYYMM), by owner.

    A budget that is added in the middle of its window starts from it; expires after 100 days.
    """
    return f"{_slot(team)}:spent:{month}"


def spent_total_key(team: TeamId) -> str:
    """Name the hash of what each owner of a budget has ever spent. Never expires."""
    return f"{_slot(team)}:spent:total"


def ledger_key(team: TeamId) -> str:
    """Name the stream with an entry for every movement of money, in order."""
    return f"{_slot(team)}:ledger"


def account_key(team: TeamId) -> str:
    """Name the hash of the team's account: its version, settings and keys made at run time."""
    return f"{{t:{team}}}:account"


def audit_key(team: TeamId) -> str:
    """Name the stream of changes to the team's account: who, what, before, after. Never trimmed."""
    return f"{{t:{team}}}:audit"


def teams_index_key() -> str:
    """Name the set of teams made at run time, in a slot of its own.

    A team is entered before its account is written, so no account is ever missing here.
    """
    return "accounts:teams"


def checkpoint_key(team: TeamId) -> str:
    """Name the hash with the state that the trimmed part of the ledger had led to.

    Owned by ledger/checkpoint.py; never expires.
    """
    return f"{_slot(team)}:ledger:checkpoint"


def staged_checkpoint_key(team: TeamId, name: str) -> str:
    """Name the hash of a checkpoint that is being written; expires in an hour if it stays one."""
    return f"{_slot(team)}:ledger:checkpoint:{name}"


def adjustments_key(team: TeamId) -> str:
    """Name the hash of corrections: by task what was added in all, by operation its entry.

    Two fields for every correction that was made by hand; never expires.
    """
    return f"{{t:{team}}}:ledger:adjustments"


def outbox_key(team: TeamId) -> str:
    """Name the hash of what the organization is still to be told, by ``<task>:<part>``.

    Written with the settlement, taken away when the organization's slot has it; never expires.
    """
    return f"{{t:{team}}}:outbox"


def organization_hold_key(task: TaskId) -> str:
    """Name the hash of what the organization holds for a task, and which parts were settled.

    Expires an hour after it is over and the team's outbox has nothing of the task any more.
    """
    return f"{{org}}:hold:{task}"


def organization_holds_key() -> str:
    """Name the sorted set of open holds, ``<team>:<task>`` by when to look after them (Unix ms)."""
    return "{org}:holds"


def organization_settled_key() -> str:
    """Name the sorted set of holds that are over and not yet forgotten, by their end (Unix ms)."""
    return "{org}:settled"

"""Every key in the store, as a function.

All keys of a team share the hash tag ``{t:<team>}``: a hold, its settlement and the task's record
change in one script, also on a cluster (design decision 5).
"""

from __future__ import annotations

from gateway.domain.ids import TaskId, TeamId


def task_key(team: TeamId, task: TaskId) -> str:
    """Name the hash of one task's record and its hold; expires after it is over."""
    return f"{{t:{team}}}:task:{task}"


def live_key(team: TeamId) -> str:
    """Name the sorted set of the team's unfinished tasks by creation (Unix ms)."""
    return f"{{t:{team}}}:live"


def tombstone_key(team: TeamId, task: TaskId) -> str:
    """Name the string that says this id was given up; expires in an hour."""
    return f"{{t:{team}}}:tombstone:{task}"


def budget_window_key(team: TeamId, budget: str, start_ms: int) -> str:
    """Name the hash with `spent` and `held` in micro-dollars of one budget in one window.

    Expires some time after the window's end; a total never does.
    """
    return f"{{t:{team}}}:budget:{budget}:{start_ms}"


def ledger_key(team: TeamId) -> str:
    """Name the stream with an entry for every settlement and release, in order."""
    return f"{{t:{team}}}:ledger"

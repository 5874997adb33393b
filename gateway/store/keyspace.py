"""Every key in the store, as a function.

All keys of a team share the hash tag ``{t:<team>}``: a hold, its settlement and the task's record
change in one script, also on a cluster. The organization's keys have a slot of
their own, ``{org}``; books may belong to a team or to it.
"""

from __future__ import annotations

import hashlib

from gateway.domain.ids import ORGANIZATION, TaskId, TeamId


def _slot(owner: TeamId) -> str:
    """Return the hash tag of whoever keeps books: a team's, or the organization's own."""
    return "{org}" if owner == ORGANIZATION else f"{{t:{owner}}}"


def task_key(team: TeamId, task: TaskId) -> str:
    """Name the hash of one task's record and its hold; expires after it is over."""
    return f"{{t:{team}}}:task:{task}"


def prompt_key(team: TeamId, task: TaskId) -> str:
    """Name the string with a prompt that is kept beyond its task's end; expires by itself."""
    return f"{{t:{team}}}:prompt:{task}"


def book_key(team: TeamId, digest: str) -> str:
    """Name the string with a price book that tasks of the team were quoted by.

    Expires long after the last of them can be settled; see tasks/written_books.py.
    """
    return f"{{t:{team}}}:book:{digest}"


def deleted_key(team: TeamId, task: TaskId) -> str:
    """Name the string that says that a task was deleted, so that nobody writes it again; an hour.

    It does not name the task: nothing of it is to be found.
    """
    return f"{{t:{team}}}:deleted:{hashlib.sha256(task.encode()).hexdigest()[:32]}"


def live_key(team: TeamId, owner: str) -> str:
    """Name the sorted set of the team's tasks that a replica has to see to, by creation (Unix ms).

    An empty `owner` is those that were handed over and that nobody has taken yet.
    """
    return f"{{t:{team}}}:live:{owner}"


def owners_key(team: TeamId) -> str:
    """Name the set of replicas that have to see to tasks of the team."""
    return f"{{t:{team}}}:owners"


def tasks_key(team: TeamId) -> str:
    """Name the sorted set of all tasks of the team that have a record, by creation (Unix ms)."""
    return f"{{t:{team}}}:tasks"


def calls_key(team: TeamId, call: str) -> str:
    """Name the sorted set of tasks a retry of this call may join, by their last waiter's count.

    `call` is a fingerprint. Members are creation time and id, so that equals are in order of age.
    Expires with the last of them.
    """
    return f"{{t:{team}}}:calls:{call}"


def orphans_key(team: TeamId, call: str) -> str:
    """Name the sorted set of tasks of this call that nobody waits for, by creation (Unix ms)."""
    return f"{{t:{team}}}:orphans:{call}"


def refused_key(team: TeamId, call: str) -> str:
    """Name the sorted set of retries to be expected, by count, of calls that were sent away.

    By count and by when each is not expected any more. Expires in two minutes.
    """
    return f"{{t:{team}}}:refusals:{call}"


def waits_key(team: TeamId, call: str) -> str:
    """Name the hash of when each replica last had a request wait for a task of this call.

    Unix ms of the store's clock, by replica. Expires with the tasks.
    """
    return f"{{t:{team}}}:waits:{call}"


def upload_key(team: TeamId, account: str, digest: str) -> str:
    """Name the string with the link to a reference that was brought up to an upstream's files.

    `digest` is of its bytes. While somebody is about it, it holds who; it expires before the link.
    """
    return f"{{t:{team}}}:upload:{account}:{digest}"


def idempotency_key(team: TeamId, digest: str) -> str:
    """Name the hash of the task an `Idempotency-Key` stands for, and its call; 24 hours."""
    return f"{{t:{team}}}:idempotency:{digest}"


def tombstone_key(team: TeamId, task: TaskId) -> str:
    """Name the string that says this id was given up; expires in an hour."""
    return f"{{t:{team}}}:tombstone:{task}"


def unfetched_key(team: TeamId) -> str:
    """Name the hash of what was paid for pictures that nobody has fetched, by task, and in all.

    Expires when the last of them has gone.
    """
    return f"{{t:{team}}}:unfetched"


def unfetched_ends_key(team: TeamId) -> str:
    """Name the sorted set of the same tasks by when their pictures are gone (Unix ms)."""
    return f"{{t:{team}}}:unfetched:ends"


def unfetched_awaited_key(team: TeamId) -> str:
    """Name the sorted set of tasks with pictures that a request waits for, by when paid (Unix ms).

    Until its answer has left. Expires when the last of the pictures has gone.
    """
    return f"{{t:{team}}}:unfetched:awaited"


def in_flight_key(team: TeamId) -> str:
    """Name the sorted set of the team's tasks that hold money, by their number of images.

    Those of an end user are a set beside it, ``…:in_flight:<hash>`` (tasks/lua/in_flight.lua).
    """
    return f"{{t:{team}}}:in_flight"


def budget_window_key(team: TeamId, scope: str, owner: str, budget: str, start_ms: int) -> str:
    """Name the hash with `spent` and `held` in micro-dollars of one budget in one window.

    `owner` is empty for the team, a key's name, or an end user's hash. Expires some time after the
    window's end; a total never does.
    """
    return f"{_slot(team)}:budget:{scope}:{owner}:{budget}:{start_ms}"


def opened_key(team: TeamId, scope: str, owner: str) -> str:
    """Name the string with the budget windows of an owner that are open; expires with the last.

    JSON (tasks/lua/widening.lua). `owner` as in `budget_window_key`.
    """
    return f"{{t:{team}}}:opened:{scope}:{owner}"


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

    What the organization was not told of has an owner of its own (ledger/lua/untold.lua).
    A budget that is added in the middle of its window starts from it; expires after 100 days.
    """
    return f"{_slot(team)}:spent:{month}"


def spent_total_key(team: TeamId) -> str:
    """Name the hash of what each owner of a budget has ever spent. Never expires."""
    return f"{_slot(team)}:spent:total"


def ledger_key(team: TeamId) -> str:
    """Name the stream with an entry for every movement of money, in order."""
    return f"{_slot(team)}:ledger"


def alert_key(team: TeamId, window_key: str, percent: int, total_microusd: int | None) -> str:
    """Name the hash that says whether a part of a budget's window was announced.

    It lies in the window's slot and expires a day after it. A total has no end, so its limit is in
    the name, and a higher one is announced anew; such marks never expire.
    """
    window = window_key.removeprefix(f"{{t:{team}}}:budget:")
    limit = "" if total_microusd is None else f":{total_microusd}"
    return f"{{t:{team}}}:alert:{window}:{percent}{limit}"


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


def retention_turn_key() -> str:
    """Name the string with the replica that trims ledgers in this hour, in a slot of its own."""
    return "ledger:retention"


def adjustments_key(team: TeamId) -> str:
    """Name the hash of corrections: by task what was added in all, by operation its entry.

    Fields for every correction and top-up that was made by hand; never expires.
    """
    return f"{{t:{team}}}:ledger:adjustments"


def server_secret_key() -> str:
    """Name the string that signs links and callback tokens where the operator gives no secret."""
    return "server:secret"


def replicas_key() -> str:
    """Name the sorted set of gateway processes by their last renewal (the store's Unix ms)."""
    return "replicas"


def picture_place_key(replica: str) -> str:
    """Name the string that says where a replica keeps pictures; a day after its last word."""
    return f"picture_place:{{{replica}}}"


def active_teams_key() -> str:
    """Name the set of teams that ever had a task: where recovery looks."""
    return "teams:active"


def wake_key(replica: str) -> str:
    """Name the stream that wakes one gateway process; expires when nobody writes to it."""
    return f"wake:{{{replica}}}"


def reload_key(call: str) -> str:
    """Name the hash of what replicas answer to a call to reload; expires in a minute."""
    return f"reload:{{{call}}}"


def claim_key(account: str, upstream_id: str) -> str:
    """Name the string with the one render that an upstream's task id was bound to; a week."""
    return f"claim:{{{account}}}:{upstream_id}"


def latency_key(latency_class: str) -> str:
    """Name the hash of what is learned about how long one class of renders takes.

    Its moment and the weights of each histogram; a slot of its own. Expires 30 days after the
    last render of the class.
    """
    return f"latency:{{{latency_class}}}"


def poll_rate_key(provider: str) -> str:
    """Name the hash of who polls a provider's account how much; expires in a minute.

    `next_ms`, when the account's next poll may be, and for each replica the same and its demand.
    """
    return f"poll_rate:{{{provider}}}"


def permits_key(account: str) -> str:
    """Name the hash of the renders in flight at an upstream account, with their teams.

    All keys of an account share the hash tag ``{a:<account>}``. Owned by tasks/permits.py; a
    render is in it from before its submit until it is over.
    """
    return f"{{a:{account}}}:permits"


def pace_key(account: str) -> str:
    """Name the hash that says how fast renders may be submitted; expires 15 minutes after use."""
    return f"{{a:{account}}}:pace"


def turns_key(account: str) -> str:
    """Name the hash of replicas that wait for the account, by their turn; expires in seconds."""
    return f"{{a:{account}}}:turns"


def callbacks_key(team: TeamId) -> str:
    """Name the sorted set of callbacks that are not over, by when they are due (Unix ms).

    One that a worker has claimed is due again when its lease ends.
    """
    return f"{{t:{team}}}:callbacks"


def callback_key(team: TeamId, delivery: str) -> str:
    """Name the hash of one callback; expires a day after it is over."""
    return f"{{t:{team}}}:callback:{delivery}"


def callback_secret_key(team: TeamId) -> str:
    """Name the hash of what the team's callbacks are signed with. Never expires."""
    return f"{{t:{team}}}:callback_secret"


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

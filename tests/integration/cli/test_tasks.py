from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner, Result

from gateway.background import SystemClock
from gateway.callbacks.deliveries import Deliveries, Verdict
from gateway.callbacks.interface import Callback, CallbackEvent, DeliveryStatus
from gateway.cli.main import app
from gateway.domain.ids import TeamId
from gateway.domain.pricing import Charge, ChargeBasis
from gateway.domain.task import Event, FailureKind
from gateway.store.client import Store
from gateway.store.keyspace import teams_index_key, wake_key
from gateway.tasks.interface import Ending
from gateway.tasks.redis_tasks import RedisTaskStore
from tests.support.factories import a_team, an_admission
from tests.support.journal import LaterClock, a_journal, admitted, finished, submitted
from tests.support.valkey import ValkeyProcess

COMMANDS = (["list"], ["show", "task1"], ["cancel", "task1"])

Work = Callable[[RedisTaskStore, Store], Awaitable[None]]


@pytest.fixture
def in_store(valkey_process: ValkeyProcess) -> Callable[[Work], None]:
    """Empty the store; return what works on the journal of a replica, from outside of any loop."""

    async def run(work: Work | None) -> None:
        async with Store(valkey_process.url, timeout_ms=15_000) as store:
            if work is None:
                await store.command("FLUSHALL")
            else:
                await work(a_journal(store), store)

    asyncio.run(run(None))
    return lambda work: asyncio.run(run(work))


def run(config: Path, *arguments: str) -> Result:
    """Run a command about tasks."""
    return CliRunner().invoke(app, ["tasks", *arguments, "--config", str(config)])


def shown(config: Path, *arguments: str) -> dict[str, object]:
    """Return what a command tells programs."""
    told: dict[str, object] = json.loads(run(config, *arguments, "--json").stdout)
    return told


def test_tasks_are_listed_from_the_newest_on(
    config: Path, in_store: Callable[[Work], None]
) -> None:
    """Of every team, also of one that is in no file; or of one; never more than asked for."""

    async def three(_: RedisTaskStore, store: Store) -> None:
        for number, team in enumerate(("design", "ops", "design")):
            journal = a_journal(store, clock=LaterClock(number / 1000))
            admission = an_admission(f"task{number}", team=a_team(name=team))
            await admitted(journal, admission)

    in_store(three)
    listed = json.loads(run(config, "list", "--json").stdout)
    of_one = json.loads(run(config, "list", "--team", "ops", "--json").stdout)
    newest = run(config, "list", "--limit", "1").stdout.splitlines()

    assert [("task2", "design"), ("task1", "ops"), ("task0", "design")] == [
        (task["id"], task["team"]) for task in listed
    ]
    assert ["task1"] == [task["id"] for task in of_one]
    assert 2 == len(newest)
    assert "task2" in newest[1]
    assert "queued" in newest[1]
    assert "0/1" in newest[1]


def test_nothing_is_listed_where_there_is_nothing(
    config: Path, in_store: Callable[[Work], None]
) -> None:
    """An empty list is a list; of a team that there is not it is a mistake."""
    assert (0, "There are no tasks.\n") == ((done := run(config, "list")).exit_code, done.stdout)
    assert [] == json.loads(run(config, "list", "--json").stdout)
    assert (1, "gateway: There is no team 'opps', and there are no tasks of it.\n") == (
        (done := run(config, "list", "--team", "opps")).exit_code,
        done.stderr,
    )


def test_a_task_is_shown_with_its_renders_and_its_money(
    config: Path, in_store: Callable[[Work], None]
) -> None:
    """Who sees to it, its ids upstream, what is held, booked and perhaps charged; no prompt."""

    async def lived(journal: RedisTaskStore, _: Store) -> None:
        task = (await admitted(journal, an_admission(images=3, hold_microusd=60))).task
        done = await submitted(journal, task, 0)
        await journal.conclude(task, done, finished(30))
        lost = await journal.begin_submit(task, task.renders[1], "run_1")
        possible = Charge(60, {"image_output": 60}, ChargeBasis.POSSIBLE)
        await journal.conclude(
            task, lost, Ending(Event.WRITE_OFF, possible, FailureKind.SUBMIT_UNKNOWN)
        )

    in_store(lived)
    told = shown(config, "show", "task1")
    text = run(config, "show", "task1", "--team", "design").stdout

    facts = {
        "team": "design",
        "owner": "replica_1",
        "epoch": 1,
        "cancelled": False,
        "held_usd": "0.00006",
        "possible_charge_usd": "0.00006",
        "cost_usd": "0.00009",
        "status": "in_progress",
    }
    assert facts == {name: told[name] for name in facts}
    renders = told["renders"]
    assert isinstance(renders, list)
    assert [
        ("completed", "up-0", "run_0", 1, "credits", None),
        ("unknown", "", "run_1", 1, "possible", "submit_unknown"),
        ("queued", "", "", 0, None, None),
    ] == [
        tuple(
            render[name]
            for name in (*("state", "upstream_id", "attempt_id", "tries", "basis", "error"),)
        )
        for render in renders
    ]
    assert 0 <= renders[0]["submitted"] - told["created"] <= 5  # type: ignore[operator]
    assert [None, None] == [render["submitted"] for render in renders[1:]]
    lines = {line.split()[0]: line for line in text.splitlines()}
    assert "replica_1" in lines["owner"]
    assert "$0.00009" in lines["cost"]
    assert "$0.00006" in lines["possible"]
    assert "up-0" in lines["0"]
    assert "submit_unknown, possible charge" in lines["1"]
    for answer in (json.dumps(told), text):
        assert "red fox" not in answer
        assert "https://" not in answer


def test_a_task_tells_whether_its_client_was_told(
    config: Path, in_store: Callable[[Work], None]
) -> None:
    """How often it was tried and what the receiver said last; never its address."""
    hook = "https://client.example/hook?token=secret"

    async def failed(journal: RedisTaskStore, store: Store) -> None:
        task = (await admitted(journal, replace(an_admission(), callback_url=hook))).task
        deliveries = Deliveries(store, SystemClock())
        callback = Callback(task.team, task.id, CallbackEvent.FAILED, hook, b"{}")
        await deliveries.enqueue(callback)
        claimed = await deliveries.claim(task.team, callback.id, "mine", lease_ms=1_000)
        assert claimed is not None
        await deliveries.record(claimed, Verdict(DeliveryStatus.FAILED, "503"))

    in_store(failed)
    told = shown(config, "show", "task1")
    text = run(config, "show", "task1").stdout

    [callback] = told["callbacks"]  # type: ignore[misc]
    assert {
        "id": "evt_task1_failed",
        "event": "failed",
        "status": "failed",
        "tries": 1,
        "last": "503",
        "next_try": None,
    } == {name: value for name, value in callback.items() if name != "ended"}
    assert callback["ended"] >= told["created"]
    [line] = [line for line in text.splitlines() if "evt_task1_failed" in line]
    assert ["failed", "1", "503"] == line.split()[1:4]
    for answer in (json.dumps(told), text):
        assert "client.example" not in answer


def test_a_task_is_cancelled_and_whoever_sees_to_it_is_told(
    config: Path, in_store: Callable[[Work], None]
) -> None:
    """What was submitted goes on, and the command says so; once more changes nothing."""

    async def begun(journal: RedisTaskStore, _: Store) -> None:
        task = (await admitted(journal, an_admission(images=2))).task
        await submitted(journal, task, 0)

    messages: list[dict[str, object]] = []
    marks: list[bool] = []

    async def look(journal: RedisTaskStore, store: Store) -> None:
        entries = await store.command("XRANGE", wake_key("replica_1"), "-", "+")
        messages.extend(orjson.loads(fields[b"message"]) for _, fields in entries)  # type: ignore[misc, union-attr]
        task = await journal.read(TeamId("design"), an_admission().id)
        marks.append(task is not None and task.cancelled)

    in_store(begun)
    told = shown(config, "cancel", "task1")
    text = run(config, "cancel", "task1").stdout
    in_store(look)

    assert {
        "id": "task1",
        "team": "design",
        "cancelled": True,
        "owner": "replica_1",
        "submitted": 1,
    } == told
    assert "The task 'task1' of team 'design' is cancelled." in text
    assert "1 of 2 pictures" in text
    assert [("cancel", "design", "task1")] * 2 == [
        (message["kind"], message["team"], message["task"]) for message in messages
    ]
    assert [True] == marks


def test_what_is_over_cannot_be_cancelled(config: Path, in_store: Callable[[Work], None]) -> None:
    """The command says how it stands and ends with 1."""

    async def over(journal: RedisTaskStore, _: Store) -> None:
        task = (await admitted(journal, an_admission())).task
        render = await submitted(journal, task)
        failure = FailureKind.MODERATION
        charge = Charge(0, {}, ChargeBasis.NOTHING)
        await journal.conclude(task, render, Ending(Event.FAIL, charge, failure))

    in_store(over)
    done = run(config, "cancel", "task1")

    assert 1 == done.exit_code
    assert "gateway: nothing of 'task1' can be cancelled any more: it is failed.\n" == done.stderr


@pytest.mark.parametrize("command", ["show", "cancel"])
def test_a_task_that_does_not_exist_is_refused(
    command: str, config: Path, in_store: Callable[[Work], None]
) -> None:
    """Nor does it exist for another team."""

    async def one(journal: RedisTaskStore, store: Store) -> None:
        await admitted(journal, an_admission())
        await store.command("SADD", teams_index_key(), "ops")

    in_store(one)

    for arguments in (["unheard-of"], ["task1", "--team", "ops"]):
        done = run(config, command, *arguments)
        assert (1, f"gateway: there is no task '{arguments[0]}'.\n") == (
            done.exit_code,
            done.stderr,
        )


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_task_of_a_newer_gateway_is_told(
    command: list[str], config: Path, in_store: Callable[[Work], None]
) -> None:
    """What this release cannot read is refused and not guessed."""

    async def newer(journal: RedisTaskStore, store: Store) -> None:
        await admitted(journal, an_admission())
        await store.command("HSET", "{t:design}:task:task1", "schema", "3")

    in_store(newer)
    done = run(config, *command)

    assert 1 == done.exit_code
    assert "gateway: a task cannot be read: schema 3" in done.stderr


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_settings_and_stores_that_cannot_be_used_are_told(
    command: list[str], tmp_path: Path
) -> None:
    """Every command ends with 1 and a line that says why."""
    wrong = tmp_path / "wrong.toml"
    wrong.write_text("[redis]\nurl = 7\n", encoding="utf-8")
    silent = tmp_path / "silent.toml"
    silent.write_text('[redis]\nurl = "unix:///nowhere.sock"\n', encoding="utf-8")
    refused = [run(file, *command) for file in (wrong, silent)]

    assert [1, 1] == [done.exit_code for done in refused]
    assert "gateway: redis.url" in refused[0].stderr
    assert (
        "gateway: the store that redis.url names did not answer within redis.timeout.\n"
        == refused[1].stderr
    )


@pytest.mark.parametrize(
    "arguments", [["list", "--limit", "0"], ["list", "--limit", "1001"], ["show"], ["cancel"]]
)
def test_wrong_arguments_are_a_usage_error(arguments: list[str], config: Path) -> None:
    """Exit code 2 is for calls that are not understood."""
    assert 2 == run(config, *arguments).exit_code

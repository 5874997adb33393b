"""How tasks are written down: the fields of a record, a line of the ledger, a day's sums. Pure.

A record is one hash. What belongs to one render has its index before the name (`0:state`).
Scripts take fields as flat lists of names and values in turn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace

import orjson

from gateway.domain.ids import TaskId, TeamId
from gateway.domain.images import Operation, Output, PictureFormat, StoredPicture, TokenUsage
from gateway.domain.limits import Scope
from gateway.domain.pricing import NO_CHARGE, PICTURE, Charge, ChargeBasis
from gateway.domain.references import parse_references, references_said
from gateway.domain.task import (
    SCHEMA,
    Event,
    FailureKind,
    HeldWindow,
    Hold,
    Render,
    RenderState,
    Result,
    SubmitOrder,
    Surface,
    Task,
    picture_key,
)
from gateway.tasks.interface import Ending

#: Sums of what was spent are kept by quarters of an hour; the scripts know the same number.
BUCKET_MS = 900_000

#: What a record says of a picture that will never be in the asset store.
LOST = "lost"

#: How renders come to the states they end in, when nobody remembers more.
_ENDS: dict[RenderState, tuple[RenderState, Event]] = {
    RenderState.COMPLETED: (RenderState.SUBMITTED, Event.FINISH),
    RenderState.FAILED: (RenderState.SUBMITTED, Event.FAIL),
    RenderState.LOST: (RenderState.SUBMITTED, Event.LOSE),
    RenderState.UNKNOWN: (RenderState.UNKNOWN, Event.WRITE_OFF),
}


class UnreadableTaskError(Exception):
    """A record does not say what every task has, or is of a later schema."""


def task_fields(task: Task, *, owner: str, call: Mapping[str, str]) -> list[str]:
    """Return the record of a task as it is in memory; `call` is who waits for it (calls.lua)."""
    unfinished = sum(render.result is None for render in task.renders)
    unstored = sum(render.result is not None and not render.settled for render in task.renders)
    record = {
        "schema": str(SCHEMA),
        "epoch": str(task.epoch),
        "version": "1",
        "owner": owner,
        "key": task.key_name,
        "user": task.user,
        "model": task.model,
        "operation": task.operation.value,
        "size": task.size,
        "quality": task.quality,
        "created_ms": str(task.created_ms),
        "call": task.call,
        "detached": "1" if task.detached else "0",
        "surface": task.surface.value,
        "references": str(task.references),
        "output": f"{task.output.format} {task.output.compression}",
        "renders": str(len(task.renders)),
        "open": str(unfinished),
        # The callback that is to be written down counts like a picture that is to be stored.
        "unstored": str(unstored + bool(task.callback_url)),
        "provider": task.order.provider,
        "account": task.order.account,
        "order": _json(task.order.body),
        **({"files": _json(references_said(task.order.references))} if task.references else {}),
        **({"brought": _json(references_said(task.brought))} if task.brought.pictures else {}),
        **({"subject": task.subject} if task.subject else {}),
        **({"book": task.book} if task.book else {}),
        **({} if task.keep_ms is None else {"keep_ms": str(task.keep_ms)}),
        **({"trace": task.trace} if task.trace else {}),
        **call,
    }
    if task.callback_url:
        record |= {"callback_url": task.callback_url, "base_url": task.base_url}
    for render in task.renders:
        fields = {"state": render.state.value, "hold": str(task.hold.amount_microusd)}
        if render.attempt_id:
            fields |= render_fields(render)
        if render.result is not None:
            fields |= _result_fields(render.result)
        record |= {f"{render.index}:{name}": value for name, value in fields.items()}
    return _flat(record)


def parse_task(team: TeamId, task: TaskId, fields: Mapping[str, str]) -> Task:
    """Return the task in a record. Raises UnreadableTaskError."""
    try:
        # During a rolling upgrade the next release's records are read, and what they add is kept.
        if int(fields["schema"]) > SCHEMA + 1:
            raise UnreadableTaskError(f"schema {fields['schema']} is of a newer gateway")
        return Task(
            id=task,
            team=team,
            key_name=fields["key"],
            user=fields["user"],
            model=fields["model"],
            operation=Operation(fields["operation"]),
            size=fields["size"],
            quality=fields["quality"],
            created_ms=int(fields["created_ms"]),
            owner=fields["owner"],
            epoch=int(fields["epoch"]),
            order=SubmitOrder(
                provider=fields["provider"],
                account=fields["account"],
                body=orjson.loads(fields.get("order", "{}")),
                references=parse_references(orjson.loads(fields.get("files", "{}"))),
            ),
            hold=Hold(
                amount_microusd=int(fields["0:hold"]) - int(fields.get("0:raised", "0")),
                windows=tuple(parse_window(facts) for facts in orjson.loads(fields["held"])),
            ),
            renders=tuple(
                _parse_render(team, task, index, fields) for index in range(int(fields["renders"]))
            ),
            call=fields["call"],
            detached=fields["detached"] == "1",
            references=int(fields.get("references", "0")),
            ended_ms=int(fields.get("ended_ms", "0")),
            cancelled=fields.get("cancelled") == "1",
            callback_url=fields.get("callback_url", ""),
            surface=Surface(fields.get("surface", Surface.OPENAI)),
            base_url=fields.get("base_url", ""),
            watchers=tuple(fields.get("watchers", "").split()),
            output=_parse_output(fields.get("output", "")),
            subject=fields.get("subject", ""),
            book=fields.get("book", ""),
            brought=parse_references(orjson.loads(fields.get("brought", "{}"))),
            trace=fields.get("trace", ""),
            keep_ms=int(fields["keep_ms"]) if "keep_ms" in fields else None,
        )
    except (KeyError, ValueError, TypeError) as error:
        raise UnreadableTaskError(f"{type(error).__name__}: {error}") from error


def _parse_output(text: str) -> Output:
    """Return what a record says of its pictures; records of older gateways say nothing."""
    if not text:
        return Output()
    picture_format, compression = text.split(" ")
    return Output(PictureFormat(picture_format), int(compression))


def _parse_render(team: TeamId, task: TaskId, index: int, fields: Mapping[str, str]) -> Render:
    def field(name: str, default: str = "") -> str:
        return fields.get(f"{index}:{name}", default)

    result = None
    if cost := field("cost"):
        usage, failure, stored = field("usage"), field("failure"), field("stored")
        result = Result(
            cost_microusd=int(cost),
            basis=ChargeBasis(field("basis")),
            failure=FailureKind(failure) if failure else None,
            links=tuple(orjson.loads(field("links", "[]"))),
            usage=TokenUsage(**orjson.loads(usage)) if usage else None,
            stored=parse_stored(picture_key(team, task, index), stored),
            lost=stored == LOST,
        )
    return Render(
        index=index,
        state=RenderState(field("state")),
        attempt_id=field("attempt_id"),
        upstream_id=field("upstream_id"),
        tries=int(field("tries", "0")),
        submitted_ms=int(field("submitted_ms", "0")),
        raised_microusd=int(field("raised", "0")),
        result=result,
        urls=tuple(orjson.loads(field("urls", "[]"))),
    )


def window_facts(window: HeldWindow) -> str:
    """Return a window as a text that a record keeps; numbers stay exact."""
    return _json(window)


def parse_window(facts: Mapping[str, object]) -> HeldWindow:
    """Return the window of such a text, parsed. Raises TypeError."""
    return HeldWindow(**facts)  # type: ignore[arg-type] # written by window_facts alone


def stored_note(picture: StoredPicture) -> str:
    """Return what a record says of a picture that is in the asset store."""
    return f"{picture.format} {picture.size_bytes}"


def parse_stored(key: str, note: str) -> StoredPicture | None:
    """Return the picture of a note; None when there is none, or `LOST`."""
    if note in ("", LOST):
        return None
    picture_format, size_bytes = note.split(" ")
    return StoredPicture(key, int(size_bytes), PictureFormat(picture_format))


def result_of(ending: Ending) -> Result:
    """Return what an ending leaves of a render."""
    return Result(
        cost_microusd=ending.charge.total_microusd,
        basis=ending.charge.basis,
        failure=ending.failure,
        links=ending.links,
        usage=ending.usage,
        by_category=ending.charge.by_category,
    )


def ended_by(render: Render) -> tuple[Render, Ending]:
    """Return a settled render as it was before its end, and the end, for a store that forgot it.

    Where it is not known what the cost was made of, it is the picture's.
    """
    result = render.result
    if result is None:
        raise AssertionError("only a settled render has an end")
    state, event = _ENDS[render.state]
    if render.state is RenderState.FAILED and not render.upstream_id:
        state, event = RenderState.QUEUED, Event.EXPIRE
    made_of = result.by_category
    if result.cost_microusd and not made_of:
        made_of = {PICTURE: result.cost_microusd}
    charge = Charge(result.cost_microusd, dict(made_of), result.basis)
    ending = Ending(event, charge, result.failure, result.links, result.usage)
    return replace(render, state=state, result=None), ending


def render_fields(render: Render) -> dict[str, str]:
    """Return what a record says of where a render is that was begun at least once."""
    return {
        "state": render.state.value,
        "attempt_id": render.attempt_id,
        "upstream_id": render.upstream_id,
        "tries": str(render.tries),
        "submitted_ms": str(render.submitted_ms),
        **({"urls": _json(render.urls)} if render.urls else {}),
    }


def ending_fields(ending: Ending) -> dict[str, str]:
    """Return what a record learns when a render ends, beside its state and its cost."""
    fields = _result_fields(result_of(ending))
    return {name: value for name, value in fields.items() if name != "cost"}


def _result_fields(result: Result) -> dict[str, str]:
    fields = {"cost": str(result.cost_microusd), "basis": result.basis.value}
    if result.failure is not None:
        fields["failure"] = result.failure.value
    if result.links:
        fields["links"] = _json(result.links)
    if result.usage is not None:
        fields["usage"] = _json(result.usage)
    if result.stored is not None:
        fields["stored"] = stored_note(result.stored)
    elif result.lost:
        fields["stored"] = LOST
    return fields


def verb_of(charge: Charge) -> str:
    """Return what the ledger calls the end of a hold."""
    if charge.basis is ChargeBasis.POSSIBLE:
        return "possible_charge"
    return "settle" if charge.total_microusd else "release"


def hold_entry(task: Task, index: int) -> list[str]:
    """Return what the ledger's line of a render's hold says beside its money."""
    return _flat({"op": f"{task.id}:{index}:hold", **_who_and_what(task, index)})


def raise_entry(task: Task, index: int) -> list[str]:
    """Return what the ledger's line of a hold that is raised says beside its money."""
    return _flat({"op": f"{task.id}:{index}:raise", **_who_and_what(task, index)})


def ending_op(task: Task, index: int) -> str:
    """Name the end of a render's hold in the ledger."""
    return f"{task.id}:{index}:end"


def ending_entry(task: Task, render: Render, ending: Ending) -> list[str]:
    """Return what the ledger's line of an end says beside its money."""
    return _flat(
        {
            **_who_and_what(task, render.index),
            "categories": _json(ending.charge.by_category),
            "tokens": _json(_tokens(ending)),
            "basis": ending.charge.basis.value,
            "images": "1" if ending.links else "0",
            "created_ms": str(task.created_ms),
            "upstream": render.upstream_id,
        }
    )


def release_entry(task: Task, index: int) -> list[str]:
    """Return what the ledger's line of an admission that was given up says beside its money."""
    nothing = Ending(Event.EXPIRE, NO_CHARGE)
    return ["op", ending_op(task, index), *ending_entry(task, Render(index), nothing)]


def rollups(task: Task, ending: Ending) -> list[str | int]:
    """Return what an end adds to the sums of its day: fields and integers in turn."""
    sums: dict[str, int] = {}
    charge = ending.charge
    if charge.total_microusd:
        sums["cost"] = charge.total_microusd
    if charge.basis is ChargeBasis.POSSIBLE:
        sums["possible"] = charge.total_microusd
    if ending.links:
        sums["images"] = 1
    sums |= {f"cost:{name}": amount for name, amount in charge.by_category.items() if amount}
    sums |= {f"tokens:{name}": count for name, count in _tokens(ending).items() if count}
    flat: list[str | int] = []
    for measure, amount in sums.items():
        where = [task.key_name, task.model, task.order.provider, measure]
        flat += [_json(where), amount]
    return flat


def sum_owners(task: Task) -> list[str]:
    """Return whose sums a task's cost goes to: the team's, its key's, its end user's."""
    owners = [f"{Scope.TEAM}|", f"{Scope.KEY}|{task.key_name}"]
    if task.user:
        owners.append(f"{Scope.USER}|{task.user}")
    return owners


def bucket_of(moment_ms: int) -> int:
    """Return the start of the quarter of an hour that a moment is in."""
    return moment_ms - moment_ms % BUCKET_MS


def _tokens(ending: Ending) -> dict[str, int]:
    return {} if ending.usage is None else asdict(ending.usage)


def _who_and_what(task: Task, index: int) -> dict[str, str]:
    return {
        "render": str(index),
        "key": task.key_name,
        "user": task.user,
        "model": task.model,
        "provider": task.order.provider,
        "size": task.size,
        "quality": task.quality,
    }


def _json(value: object) -> str:
    return orjson.dumps(value).decode()


def _flat(record: Mapping[str, str]) -> list[str]:
    return [word for pair in record.items() for word in pair]

from dataclasses import fields
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest

from gateway.simulator import markers as markers_module
from gateway.simulator.errors import RefusedError
from gateway.simulator.faults import SUBMIT_FAULTS, TASK_FAULTS
from gateway.simulator.latency import Form, Profile
from gateway.simulator.markers import ROUTES, read_rule, read_script
from gateway.simulator.query_faults import FILE_FAULTS, QUERY_FAULTS
from gateway.simulator.replies import ANY_MANNER, Manner, Reply
from gateway.simulator.script import (
    Ending,
    ErrorForm,
    Leaning,
    Letter,
    LetterForm,
    Moment,
    Outlook,
    Progress,
    ResultFile,
    Script,
    Wait,
)
from gateway.simulator.settings import Envelope, Idempotency, References, RetryAfter, Shape
from gateway.simulator.world import Stats

DOCS = Path(__file__).parents[3] / "docs" / "simulator.md"


def refusing(code: str, times: int | None = None) -> Reply:
    """Return the reply that refuses a submit with a code."""
    return Reply(Manner.REFUSE, problem=SUBMIT_FAULTS[code], times=times)


@pytest.mark.parametrize(
    ("marker", "script"),
    [
        ("[[fail:service_error]]", Script(ending=Ending.FAILED, failure="service_error")),
        ("[[message:no luck: at all]]", Script(message="no luck: at all")),
        ("[[error:text]]", Script(error_form=ErrorForm.TEXT)),
        ("[[submit:key_EXPIRED]]", Script(submit=refusing("key_expired"))),
        (
            "[[submit:channel:no_available_key]]",
            Script(submit=refusing("channel:no_available_key")),
        ),
        ("[[submit:rate_limit_exceeded*2]]", Script(submit=refusing("rate_limit_exceeded", 2))),
        ("[[submit:late:2.5]]", Script(submit=Reply(Manner.LATE, seconds=2.5))),
        ("[[submit:late]]", Script(submit=Reply(Manner.LATE, seconds=3.0))),
        ("[[created:internal_error]]", Script(created=refusing("internal_error"))),
        ("[[created:slow:0.5*1]]", Script(created=Reply(Manner.SLOW, seconds=0.5, times=1))),
        ("[[drop-before]]", Script(submit=Reply(Manner.DROP))),
        ("[[drop-response]]", Script(created=Reply(Manner.DROP))),
        ("[[no-id]]", Script(created=Reply(Manner.WITHOUT_ID))),
        ("[[html]]", Script(submit=Reply(Manner.HTML))),
        ("[[at-once]]", Script(at_once=True)),
        ("[[poll:html*3]]", Script(poll=Reply(Manner.HTML, times=3))),
        (
            "[[poll:permission_denied]]",
            Script(poll=Reply(Manner.REFUSE, problem=QUERY_FAULTS["permission_denied"])),
        ),
        ("[[envelope:integer]]", Script(envelope=Envelope.INTEGER)),
        ("[[retry-after:7]]", Script(wait=Wait(RetryAfter.SECONDS, 7))),
        ("[[retry-after:date]]", Script(wait=Wait(RetryAfter.DATE))),
        ("[[retry-after:date:9]]", Script(wait=Wait(RetryAfter.DATE, 9))),
        ("[[retry-after:none]]", Script(wait=Wait(RetryAfter.NONE))),
        ("[[http:400]]", Script(http_status=400)),
        ("[[latency:30]]", Script(latency_s=30.0)),
        ("[[latency:0.25]]", Script(latency_s=0.25)),
        (
            "[[latency-profile:bimodal:0.5:4]]",
            Script(profile=Profile(Form.BIMODAL, share=0.5, factor=4)),
        ),
        ("[[stuck:pending]]", Script(outlook=Outlook.PENDING)),
        ("[[stuck:processing]]", Script(outlook=Outlook.PROCESSING)),
        ("[[unknown-status]]", Script(outlook=Outlook.UNKNOWN)),
        ("[[progress:falling]]", Script(progress=Progress.FALLING)),
        ("[[expired:410]]", Script(expired=410)),
        ("[[shape:docs]]", Script(shape=Shape.DOCS)),
        ("[[status:cancelled]]", Script(ending=Ending.CANCELLED)),
        ("[[status:canceled]]", Script(ending=Ending.CANCELED)),
        ("[[empty-results]]", Script(ending=Ending.NO_RESULTS)),
        ("[[failed-without-error]]", Script(ending=Ending.FAILED_SILENTLY)),
        ("[[images:3]]", Script(pictures=3)),
        ("[[result:not-image]]", Script(file=ResultFile.NOT_AN_IMAGE)),
        ("[[result:cut*1]]", Script(result=Reply(Manner.CUT, times=1))),
        ("[[links:http://other.test:1/]]", Script(links="http://other.test:1")),
        ("[[model:another]]", Script(model="another")),
        ("[[label:case 7]]", Script(label="case 7")),
        ("[[revised-prompt:a red cat]]", Script(revised="a red cat")),
        ("[[idempotency:replayed]]", Script(idempotency=Idempotency.REPLAYED)),
        ("[[references:submit]]", Script(references=References.SUBMIT)),
        ("[[rules:lenient]]", Script(leanings=frozenset({Leaning.LENIENT}))),
        ("[[callback:drop]]", Script(letters=())),
        ("[[callback:twice]]", Script(letters=(Letter(copies=2),))),
        ("[[callback:late:5]]", Script(letters=(Letter(after_s=5.0),))),
        ("[[callback:storm:20]]", Script(letters=(Letter(copies=20),))),
        (
            "[[callback:early]]",
            Script(letters=(Letter(Moment.HALFWAY, form=LetterForm.COMPLETED),)),
        ),
        (
            "[[callback:forged]]",
            Script(letters=(Letter(Moment.SUBMIT, form=LetterForm.FORGED), Letter())),
        ),
    ],
)
def test_one_marker(marker: str, script: Script) -> None:
    """A marker sets its direction and disappears from the prompt."""
    assert (script, "a fox") == read_script(f"a fox {marker}")


@pytest.mark.parametrize("status", ["403", "404", "410", "429", "500", "503"])
def test_result_statuses(status: str) -> None:
    """A result link can answer with any of these."""
    script, _ = read_script(f"[[result:{status}]]")

    assert script.result is not None
    assert script.result.problem is not None
    assert int(status) == script.result.problem.status


@pytest.mark.parametrize("code", list(TASK_FAULTS))
def test_every_task_fault_has_a_marker(code: str) -> None:
    """Each failure of a task can be asked for by its code."""
    script, _ = read_script(f"[[fail:{code}]]")

    assert (Ending.FAILED, code) == (script.ending, script.failure)


def test_several_markers() -> None:
    """Markers of different kinds add up; the later of one kind wins."""
    assert (
        Script(latency_s=2.0, shape=Shape.COST, ending=Ending.CANCELED),
        "a  fox",
    ) == read_script(
        "[[latency:1]]a [[fail:service_error]] fox[[latency:2]][[shape:cost]][[status:canceled]]"
    )


def test_leanings_add_up() -> None:
    """Several leanings hold together."""
    script, _ = read_script("[[rules:other]][[rules:data-urls]]")

    assert {Leaning.OTHER, Leaning.DATA_URLS} == script.leanings


def test_markers_add_to_a_script() -> None:
    """What is given beforehand stays, unless a marker says otherwise."""
    given = Script(latency_s=1.0, shape=Shape.DOCS)

    assert (Script(latency_s=2.0, shape=Shape.DOCS), "a fox") == read_script(
        "a fox [[latency:2]]", given
    )


@pytest.mark.parametrize("prompt", ["a [[fox]] runs", "[[", " [[fail fox ]] ", "[fail:x]"])
def test_other_brackets_are_text(prompt: str) -> None:
    """Text that is no marker stays as it was written."""
    assert (Script(), prompt) == read_script(prompt)


@pytest.mark.parametrize(
    "prompt",
    [
        "[[fail:nonsense]]",
        "[[submit:]]",
        "[[submit:truncated]]",
        "[[submit:html:3]]",
        "[[submit:late:x]]",
        "[[submit:late:1..2]]",
        "[[created:drop*x]]",
        "[[poll:content_filter]]",
        "[[latency]]",
        "[[latency:-1]]",
        "[[latency:nan]]",
        "[[latency:inf]]",
        "[[latency-profile:weekly]]",
        "[[retry-after:]]x[[retry-after:soon]]",
        "[[retry-after:date:x]]",
        "[[http:200]]",
        "[[http:x]]",
        "[[images:0]]",
        "[[images:17]]",
        "[[shape:round]]",
        "[[result:501]]",
        "[[expired:500]]",
        "[[stuck:completed]]",
        "[[callback:sometimes]]",
        "[[callback:late:]]",
        "[[callback:storm:0]]",
        "[[rules:none]]",
        "[[references:never]]",
    ],
)
def test_impossible_values_are_refused(prompt: str) -> None:
    """A typing mistake in a test cannot pass as success."""
    with pytest.raises(RefusedError) as refused:
        read_script(prompt)

    assert (refused.value.problem.status, refused.value.problem.param) == (400, "prompt")


@pytest.mark.parametrize(
    ("route", "play", "problem"),
    [
        ("poll", "[[poll:task_expired]]", QUERY_FAULTS["task_expired"]),
        ("list", "[[list:internal_error]]", QUERY_FAULTS["internal_error"]),
        ("batch", "[[batch:rate_limit_exceeded]]", QUERY_FAULTS["rate_limit_exceeded"]),
        ("credits", "[[credits:quota_exceeded]]", QUERY_FAULTS["quota_exceeded"]),
        ("upload", "[[upload:storage_error]]", FILE_FAULTS["storage_error"]),
        ("files", "[[files:not_found]]", FILE_FAULTS["not_found"]),
    ],
)
def test_rules_of_other_routes(route: str, play: str, problem: Any) -> None:
    """A rule plays one reply of its own route."""
    assert Reply(Manner.REFUSE, problem=problem) == read_rule(route, play).other


def test_rules_of_submits() -> None:
    """A rule for submits plays whatever a prompt can."""
    assert Script(latency_s=1.0, label="x") == read_rule("submit", "[[latency:1]][[label:x]]")


@pytest.mark.parametrize(
    ("route", "play"),
    [
        ("poll", "[[latency:1]]"),
        ("poll", "[[credits:html]]"),
        ("result", "[[result:corrupt]]"),
        ("submit", "[[credits:html]]"),
        ("submit", "a fox"),
    ],
)
def test_rules_cannot_play_what_their_route_cannot(route: str, play: str) -> None:
    """A rule that would silently do nothing is refused."""
    with pytest.raises(RefusedError):
        read_rule(route, play)


def test_routes_of_rules() -> None:
    """Every route of EvoLink's can have rules."""
    assert {"submit", "poll", "list", "batch", "credits", "result", "upload", "files"} == set(
        ROUTES
    )


def test_everything_is_documented() -> None:
    """docs/simulator.md names every marker, manner, code and choice."""
    text = DOCS.read_text(encoding="utf-8")
    choices: list[type[StrEnum]] = [
        Envelope,
        ErrorForm,
        Idempotency,
        Leaning,
        Progress,
        References,
        RetryAfter,
        Shape,
        Form,
    ]
    markers = [f"[[{name}" for name in markers_module._DIRECTIONS]
    codes = [*SUBMIT_FAULTS, *TASK_FAULTS, *QUERY_FAULTS, *FILE_FAULTS, *ROUTES]
    values = [value for choice in choices for value in choice]
    manners = [manner.value for manner in ANY_MANNER]
    files = [file for file in ResultFile if file is not ResultFile.PICTURE]
    stats = [field.name for field in fields(Stats)]
    words = [f"`{word}" for word in [*codes, *values, *manners, *files, *stats]]

    assert [] == [word for word in markers + words if word not in text]

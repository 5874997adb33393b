import pytest

from gateway.simulator.errors import RefusedError
from gateway.simulator.faults import SUBMIT_FAULTS, TASK_FAULTS
from gateway.simulator.markers import Ending, ResultFile, Script, Submit, read_script
from gateway.simulator.settings import Envelope, Shape


@pytest.mark.parametrize(
    ("marker", "script"),
    [
        (
            "[[fail:service_error]]",
            Script(ending=Ending.FAILED, failure="service_error"),
        ),
        ("[[submit:key_EXPIRED]]", Script(refusal=SUBMIT_FAULTS["key_expired"])),
        (
            "[[submit:channel:no_available_key]]",
            Script(refusal=SUBMIT_FAULTS["channel:no_available_key"]),
        ),
        ("[[envelope:integer]]", Script(envelope=Envelope.INTEGER)),
        ("[[latency:30]]", Script(latency_s=30.0)),
        ("[[latency:0.25]]", Script(latency_s=0.25)),
        ("[[shape:docs]]", Script(shape=Shape.DOCS)),
        ("[[status:cancelled]]", Script(ending=Ending.CANCELLED)),
        ("[[status:canceled]]", Script(ending=Ending.CANCELED)),
        ("[[result:404]]", Script(result=ResultFile.MISSING)),
        ("[[result:not-image]]", Script(result=ResultFile.NOT_AN_IMAGE)),
        ("[[drop-response]]", Script(submit=Submit.DROPPED)),
        ("[[no-id]]", Script(submit=Submit.WITHOUT_ID)),
        ("[[html]]", Script(submit=Submit.HTML)),
        ("[[empty-results]]", Script(ending=Ending.NO_RESULTS)),
        ("[[failed-without-error]]", Script(ending=Ending.FAILED_SILENTLY)),
        ("[[unknown-status]]", Script(unknown_status=True)),
    ],
)
def test_one_marker(marker: str, script: Script) -> None:
    """A marker sets its direction and disappears from the prompt."""
    assert (script, "a fox") == read_script(f"a fox {marker}")


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


@pytest.mark.parametrize("prompt", ["a [[fox]] runs", "[[", " [[fail fox ]] ", "[fail:x]"])
def test_other_brackets_are_text(prompt: str) -> None:
    """Text that is no marker stays as it was written."""
    assert (Script(), prompt) == read_script(prompt)


@pytest.mark.parametrize(
    "prompt",
    [
        "[[fail:nonsense]]",
        "[[submit:]]",
        "[[latency]]",
        "[[latency:-1]]",
        "[[latency:nan]]",
        "[[latency:inf]]",
        "[[shape:round]]",
        "[[result:500]]",
    ],
)
def test_impossible_values_are_refused(prompt: str) -> None:
    """A typing mistake in a test cannot pass as success."""
    with pytest.raises(RefusedError) as refused:
        read_script(prompt)

    assert (refused.value.problem.status, refused.value.problem.param) == (400, "prompt")

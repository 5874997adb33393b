from gateway.simulator.script import (
    Ending,
    ErrorForm,
    Letter,
    LetterForm,
    Moment,
    Outlook,
    Progress,
    ResultFile,
    Script,
)


def test_default_plays_it_straight() -> None:
    """Without a direction nothing is out of the ordinary."""
    script = Script()

    assert {None} == {script.submit, script.created, script.poll, script.result, script.other}
    assert (Ending.PICTURES, Outlook.USUAL, Progress.RISING) == (
        script.ending,
        script.outlook,
        script.progress,
    )
    assert (ErrorForm.OBJECT, ResultFile.PICTURE) == (script.error_form, script.file)
    assert frozenset() == script.leanings


def test_default_callback_is_one_at_the_end() -> None:
    """It says what a poll says, once the task is settled."""
    assert (Letter(Moment.END, after_s=0.0, copies=1, form=LetterForm.TASK),) == Script().letters

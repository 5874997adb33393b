import pytest

from tests.support.factories import a_team


@pytest.mark.parametrize(
    ("globs", "model", "allowed"),
    [
        (("gpt-image-*",), "gpt-image-1.5", True),
        (("gpt-image-*",), "gpt-image-", True),
        (("gpt-image-*",), "my-gpt-image-2", False),
        (("gpt-image-*",), "GPT-IMAGE-2", False),
        (("gpt-image-1.5",), "gpt-image-1.5", True),
        (("gpt-image-1.5",), "gpt-image-1x5", False),
        (("dall-e-3", "z-*"), "z-image-turbo", True),
        (("*",), "openai/gpt-image-2", True),
        ((), "gpt-image-1.5", False),
    ],
)
def test_may_use(globs: tuple[str, ...], model: str, allowed: bool) -> None:
    """A team may use what one of its globs matches whole, in the same case."""
    team = a_team(models=globs)

    assert allowed is team.may_use(model)

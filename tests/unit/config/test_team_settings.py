import pytest
from pydantic import ValidationError

from gateway.config.team_settings import BudgetSettings, KeySettings, LimitsSettings, TeamSettings


def test_a_team_without_a_word_may_use_everything_and_has_no_limits() -> None:
    """What is not said limits nobody, and retries are joined."""
    team = TeamSettings()

    assert (("*",), (), (), True, False) == (
        team.models,
        team.budgets,
        team.keys,
        team.join_retries,
        team.usage_by_user,
    )
    assert {0} == set(LimitsSettings().model_dump().values())


@pytest.mark.parametrize(
    ("section", "written"),
    [
        (BudgetSettings, {"usd": 5}),
        (BudgetSettings, {"usd": 5, "per": "fortnight"}),
        (BudgetSettings, {"usd": -1, "per": "day"}),
        (KeySettings, {}),
        (TeamSettings, {"keyz": []}),
        (TeamSettings, {"join_retries": "perhaps"}),
    ],
)
def test_what_makes_no_sense_is_refused(
    section: type[BudgetSettings], written: dict[str, object]
) -> None:
    """A limit that was mistyped must not be none."""
    with pytest.raises(ValidationError):
        section.model_validate(written)

import pytest
from pydantic import ValidationError

from gateway.config.keep_settings import LedgerSettings, PrivacySettings


@pytest.mark.parametrize(
    ("written", "keep_ms"), [("until_done", 0), ("0s", 0), ("never", None), ("7d", 604_800_000)]
)
def test_prompts_are_kept_as_long_as_it_says(written: str, keep_ms: int | None) -> None:
    """Until their pictures are done, not at all, or for some time after that."""
    assert keep_ms == PrivacySettings(keep_prompts=written).keep_prompts_ms


def test_what_holds_when_nothing_is_said() -> None:
    """Prompts go with their pictures, and the books stay."""
    assert (0, None) == (PrivacySettings().keep_prompts_ms, LedgerSettings().keep_ms)


@pytest.mark.parametrize("written", ["", "always", "7", 7])
def test_what_is_no_time_is_refused(written: object) -> None:
    """The mistake names what there is."""
    with pytest.raises(ValidationError, match="until_done"):
        PrivacySettings.model_validate({"keep_prompts": written})

import pytest
from pydantic import ValidationError

from gateway.config.operator_settings import AlertsSettings, LogSettings


def test_defaults() -> None:
    """JSON lines, no hashes of prompts, no webhook."""
    log = LogSettings()

    assert ("json", False, "") == (log.format, log.prompt_hashes, AlertsSettings().webhook_url_env)


def test_a_format_that_is_none() -> None:
    """A misspelt format is told, and not taken for another."""
    with pytest.raises(ValidationError, match="'json' or 'console'"):
        LogSettings.model_validate({"format": "logfmt"})

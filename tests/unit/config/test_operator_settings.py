import pytest
from pydantic import ValidationError

from gateway.config.operator_settings import AlertsSettings, LogSettings, TracesSettings


def test_defaults() -> None:
    """JSON lines, no hashes of prompts, no webhook."""
    log = LogSettings()

    assert ("json", False, "") == (log.format, log.prompt_hashes, AlertsSettings().webhook_url_env)


def test_a_format_that_is_none() -> None:
    """A misspelt format is told, and not taken for another."""
    with pytest.raises(ValidationError, match="'json' or 'console'"):
        LogSettings.model_validate({"format": "logfmt"})


def test_nothing_is_traced_by_default() -> None:
    """Once there is an endpoint, every call is, and upstreams are told."""
    traces = TracesSettings()

    assert ("", "", 1.0, True) == (
        traces.endpoint,
        traces.headers_env,
        traces.sample_ratio,
        traces.propagate,
    )


@pytest.mark.parametrize(
    "wrong", [{"endpoint": "collector:4318"}, {"sample_ratio": 1.5}, {"headers_env": "key=value"}]
)
def test_traces_that_cannot_be(wrong: dict[str, object]) -> None:
    """An address without a scheme, a part above the whole, headers in place of a variable."""
    with pytest.raises(ValidationError, match="expected"):
        TracesSettings.model_validate(wrong)

from __future__ import annotations

import pytest

from gateway.config.provider_settings import ProviderSettings


@pytest.mark.parametrize(
    ("written", "service"),
    [
        ({}, "https://files-api.evolink.ai"),
        ({"base_url": "https://api.evolink.ai/"}, "https://files-api.evolink.ai"),
        ({"base_url": "http://127.0.0.1:9100"}, "http://127.0.0.1:9100"),
        ({"files_url": "https://files.example/"}, "https://files.example"),
    ],
)
def test_where_files_go(written: dict[str, str], service: str) -> None:
    """EvoLink has a server of its own for them; what else speaks its protocol has one."""
    settings = ProviderSettings.model_validate({"kind": "evolink", "api_key_env": "KEY"} | written)

    assert service == settings.file_service

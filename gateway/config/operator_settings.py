"""What whoever runs the gateway hears of it: the log, and where spending is announced."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from gateway.config.values import EnvironmentName, Section


class LogSettings(Section):
    """What is written to stderr. Prompts, keys and links never are."""

    format: Literal["json", "console"] = Field(
        default="json", description="One JSON object in a line, or lines for people to read."
    )
    prompt_hashes: bool = Field(
        default=False,
        description="Whether the line of a task has the SHA-256 of its prompt.",
    )


class AlertsSettings(Section):
    """Where spending is announced."""

    webhook_url_env: EnvironmentName = Field(
        default="",
        description="Environment variable with the URL of a Slack-compatible webhook.",
    )

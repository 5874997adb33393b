"""What whoever runs the gateway hears of it: the log, traces, and where spending is announced."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from gateway.config.addresses import OptionalUrl
from gateway.config.values import EnvironmentName, Ratio, Section


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


class TracesSettings(Section):
    """Where traces are sent (docs/traces.md)."""

    endpoint: OptionalUrl = Field(
        default="",
        description="Where spans are posted as OTLP over HTTP, such as"
        " http://127.0.0.1:4318/v1/traces; not set, nothing is traced. Needs the extra `otel`.",
    )
    headers_env: EnvironmentName = Field(
        default="",
        description="Environment variable with headers for it, name=value with commas between,"
        " values percent-encoded.",
    )
    sample_ratio: Ratio = Field(
        default=1.0,
        description="The part of calls that is traced, of those that do not say by themselves.",
    )
    propagate: bool = Field(
        default=True, description="Whether upstreams are told of traces (traceparent)."
    )

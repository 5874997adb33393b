"""Accounts at image services, as a section of the settings file for each."""

from __future__ import annotations

from fractions import Fraction
from typing import Literal

from pydantic import Field

from gateway.config.addresses import BaseUrl, OptionalPath, OptionalUrl, ResultHost
from gateway.config.values import (
    Count,
    DurationMs,
    EnvironmentName,
    Exact,
    OptionalCount,
    PositiveDurationMs,
    Section,
    SizeBytes,
)

#: EvoLink itself, and its service for files (protocols/evolink.md §1).
_LIVE = "https://api.evolink.ai"
_LIVE_FILES = "https://files-api.evolink.ai"


class ProviderSettings(Section):
    """One account at one image service; `api_key_env` or `api_key_file`, exactly one."""

    kind: Literal["evolink"] = Field(description="Which protocol it speaks.")
    base_url: BaseUrl = Field(default=_LIVE, description="Where tasks are submitted and polled.")
    files_url: OptionalUrl = Field(
        default="",
        description="Where references are uploaded; empty is where its base_url suggests.",
    )
    references: Literal["files", "links"] = Field(
        default="files",
        description="How references reach it: uploaded to its files, or as links to this server.",
    )
    image_urls: Literal["fetch", "pass"] = Field(
        default="fetch",
        description="Whether an image_url of a call is fetched here, or passed on as it is.",
    )
    result_hosts: tuple[ResultHost, ...] = Field(
        default=("files.evolink.ai", "media.evolink.ai"),
        min_length=1,
        description="Hosts that pictures may be fetched from.",
    )
    api_key_env: EnvironmentName = Field(
        default="", description="Environment variable that holds the API key."
    )
    api_key_file: OptionalPath = Field(default=None, description="File that holds the API key.")
    credits_per_usd: Exact = Field(
        default=Fraction(68), description="The provider's rate of exchange for its credits."
    )
    max_polls_per_second: OptionalCount = Field(
        default=0,
        description="Most polls of this account in a second, over all gateways; 0 is no limit.",
    )
    max_result_bytes: SizeBytes = Field(
        default=64 << 20, alias="max_result", description="Largest picture that is fetched."
    )
    max_in_flight: Count = Field(
        default=200, description="Pictures of this account that are made at once, by all gateways."
    )
    max_submits_per_second: OptionalCount = Field(
        default=20,
        description="Submissions to this account in a second, by all gateways; 0 is no limit.",
    )
    submit_timeout_ms: PositiveDurationMs = Field(
        default=60_000, alias="submit_timeout", description="Total limit of one submission."
    )
    poll_timeout_ms: PositiveDurationMs = Field(
        default=15_000, alias="poll_timeout", description="Total limit of one poll."
    )
    upload_timeout_ms: PositiveDurationMs = Field(
        default=120_000, alias="upload_timeout", description="Total limit of one file's upload."
    )
    idempotency: Literal["unproven", "proven"] = Field(
        default="unproven",
        description="Whether a repeated Idempotency-Key is known to mean the same task there.",
    )
    balance_every_ms: DurationMs = Field(
        default=60_000,
        alias="balance_every",
        description="How often the account is asked what it has left, by each process; zero never.",
    )
    fetch_timeout_ms: PositiveDurationMs = Field(
        default=120_000, alias="fetch_timeout", description="Total limit of fetching one picture."
    )

    @property
    def file_service(self) -> str:
        """The address of the service that takes files."""
        if self.files_url:
            return self.files_url.rstrip("/")
        return _LIVE_FILES if self.base_url == _LIVE else self.base_url

"""The parts of a settings file about who may call: teams, their keys, budgets and limits.

Python names carry units (`limit_microusd`); the alias is the name in the file (`usd`).
"""

from __future__ import annotations

from datetime import UTC

from pydantic import Field

from gateway.config.addresses import OptionalPath
from gateway.config.values import (
    AmountMicrousd,
    DurationMs,
    EnvironmentName,
    Name,
    OptionalAmountMicrousd,
    OptionalCount,
    OptionalMomentMs,
    OptionalName,
    PositiveDurationMs,
    Section,
    Sha256,
    Share,
    TimeZone,
)
from gateway.domain.limits import Period


class BudgetSettings(Section):
    """A limit on what a team, a key or the organization spends."""

    limit_microusd: AmountMicrousd = Field(alias="usd", description="The limit in dollars.")
    per: Period = Field(description="The calendar window: minute to month, or total.")
    name: OptionalName = Field(
        default="", description="What it is called in answers and metrics; `per` when empty."
    )
    timezone: TimeZone | None = Field(
        default=None, description="Where its windows begin; the team's time zone when absent."
    )
    alert_at: tuple[Share, ...] = Field(
        default=(), description="Parts of it that are announced once spent, such as 0.8."
    )


class UserBudgetSettings(Section):
    """A limit on what each end user of a team spends."""

    limit_microusd: AmountMicrousd = Field(alias="usd", description="The limit in dollars.")
    per: Period = Field(description="The calendar window: minute to month, or total.")


class LimitsSettings(Section):
    """How much a team may ask for, whatever it costs; 0 is no limit."""

    requests_per_minute: OptionalCount = Field(default=0, description="Calls in a minute.")
    images_per_minute: OptionalCount = Field(default=0, description="Images in a minute.")
    images_per_day: OptionalCount = Field(
        default=0, description="Images in a day of the team's time zone."
    )
    in_flight_images: OptionalCount = Field(
        default=0, description="Images that are being made at once."
    )
    queue_ms: DurationMs = Field(
        default=0,
        alias="queue",
        description="How long a call above a limit waits for its turn before it is refused.",
    )


class DefaultsSettings(Section):
    """What `auto` becomes for a team; empty leaves it to the model."""

    size: str = Field(default="", description="Such as 1024x1024.")
    quality: str = Field(default="", description="Such as medium.")


class KeySettings(Section):
    """A key of a team; `sha256`, `env` or `file`, exactly one."""

    name: Name = Field(description="What the key is called in logs and answers.")
    models: tuple[str, ...] = Field(
        default=("*",), description="Models the key may use, out of the team's."
    )
    budgets: tuple[BudgetSettings, ...] = Field(
        default=(), description="Limits on what this key spends, beside the team's."
    )
    per_call_microusd: OptionalAmountMicrousd = Field(
        default=None, alias="per_call_usd", description="The most one call may cost in dollars."
    )
    expires_ms: OptionalMomentMs = Field(
        default=None, alias="expires", description="When the key ends, such as 2027-01-31."
    )
    sha256: Sha256 = Field(default="", repr=False, description="SHA-256 of the key in hexadecimal.")
    env: EnvironmentName = Field(default="", description="Environment variable with the key.")
    file: OptionalPath = Field(default=None, description="File that holds the key.")


class TeamSettings(Section):
    """Who may call, for what, and for how much."""

    models: tuple[str, ...] = Field(
        default=("*",), description="Models the team may use; * stands for any text."
    )
    timezone: TimeZone = Field(default=UTC, description="Where the team's budget windows begin.")
    budgets: tuple[BudgetSettings, ...] = Field(
        default=(), description="Limits on spending; all of them hold at once."
    )
    defaults: DefaultsSettings = Field(
        default_factory=DefaultsSettings, description="What `auto` becomes for this team."
    )
    limits: LimitsSettings = Field(
        default_factory=LimitsSettings, description="How much the team may ask for."
    )
    per_call_microusd: OptionalAmountMicrousd = Field(
        default=None, alias="per_call_usd", description="The most one call may cost in dollars."
    )
    user_budget: UserBudgetSettings | None = Field(
        default=None, description="A budget that each end user of the team has."
    )
    join_retries: bool = Field(
        default=True,
        description="Whether a retry gets the picture that its first try has paid for.",
    )
    usage_by_user: bool = Field(
        default=False,
        strict=True,
        description="Count for each end user also where none has a budget.",
    )
    keep_ms: PositiveDurationMs | None = Field(
        default=None,
        alias="keep",
        description="How long its pictures and the records of its tasks are kept; `assets.keep`"
        " when absent.",
    )
    keys: tuple[KeySettings, ...] = Field(default=(), description="The team's keys.")


class OrganizationSettings(Section):
    """What all teams share."""

    budgets: tuple[BudgetSettings, ...] = Field(
        default=(),
        description="Limits on what all teams spend together, in UTC unless they say else.",
    )

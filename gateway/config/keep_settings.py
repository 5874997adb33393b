"""The parts of a settings file about what is kept, and for how long."""

from __future__ import annotations

from pydantic import Field

from gateway.config.values import KeepMs, PromptKeepMs, Section


class PrivacySettings(Section):
    """What is kept of what people write."""

    keep_prompts_ms: PromptKeepMs = Field(
        default=0,
        alias="keep_prompts",
        description="until_done (dropped when the last picture has ended), never (not written"
        " down at all), or how long they can be seen in their tasks after that.",
    )


class LedgerSettings(Section):
    """What becomes of the books."""

    keep_ms: KeepMs = Field(
        default=None,
        alias="keep",
        description="How long entries are kept; older ones give way to a checkpoint.",
    )

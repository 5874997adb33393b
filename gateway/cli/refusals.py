"""What keeps a gateway from serving, as lines for whoever started it."""

from __future__ import annotations

from pathlib import Path

from gateway.app import LoopDiedError
from gateway.assets.interface import AssetUnavailableError
from gateway.config.problems import ConfigError
from gateway.domain.errors import StoreUnavailable
from gateway.store.data_dir import EmbeddedServerError

#: Told without a trace: their texts are written for the operator.
REFUSALS = (
    ConfigError,
    EmbeddedServerError,
    AssetUnavailableError,
    LoopDiedError,
    StoreUnavailable,
)


def lines_of(error: Exception, config: Path) -> tuple[str, ...]:
    """Return what to print about one of `REFUSALS`; `config` is the settings file."""
    match error:
        case ConfigError(problems=problems):
            return (f"{config} cannot be used:", *(str(problem) for problem in problems))
        case StoreUnavailable():
            return ("the store did not answer in time.",)
    return (str(error),)

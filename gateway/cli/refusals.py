"""What keeps a gateway or a command from its work, as lines for whoever started it."""

from __future__ import annotations

from pathlib import Path

from gateway.app import LoopDiedError
from gateway.assets.interface import AssetUnavailableError
from gateway.config.problems import ConfigError
from gateway.domain.errors import StoreUnavailable
from gateway.service.admin import AdminRefusedError
from gateway.store.data_dir import EmbeddedServerError

#: Told without a trace: their texts are written for the operator.
REFUSALS = (
    ConfigError,
    EmbeddedServerError,
    AssetUnavailableError,
    LoopDiedError,
    StoreUnavailable,
    AdminRefusedError,
)


def lines_of(error: Exception, config: Path) -> tuple[str, ...]:
    """Return what to print about one of `REFUSALS`; `config` is the settings file."""
    match error:
        case ConfigError(problems=problems):
            lines = tuple(map(str, problems))
            # One that cannot be read at all is named by its problem.
            if [problem.path for problem in problems] == [str(config)]:
                return lines
            return (f"{config} cannot be used:", *lines)
        case StoreUnavailable():
            return ("the store that redis.url names did not answer within redis.timeout.",)
    return (str(error),)

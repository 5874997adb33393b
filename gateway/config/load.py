"""From a settings file to settings: everything, or every mistake in it."""

from __future__ import annotations

import hashlib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gateway.config.catalog import catalog_problems, packaged
from gateway.config.credentials import Secrets, find_secrets
from gateway.config.problems import ConfigError, Problem, problems_in
from gateway.config.rules import broken_rules
from gateway.config.settings import Settings

#: Validated even when the file leaves them out: their default paths belong to its folder, too.
_SECTIONS_WITH_PATHS = ("redis", "assets", "references")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A file that is right, and the secrets it names as far as they are on this machine.

    `fingerprint` is that of what was read, as `fingerprint_of` tells it.
    """

    settings: Settings
    secrets: Secrets
    missing_secrets: tuple[Problem, ...]
    fingerprint: str = ""

    def require_secrets(self) -> Secrets:
        """Return the secrets; ConfigError with every one that is missing. Serving needs all."""
        if self.missing_secrets:
            raise ConfigError(self.missing_secrets)
        return self.secrets


def load(path: Path, environ: Mapping[str, str]) -> Loaded:
    """Read a settings file and the secrets it names.

    Raises ConfigError with all mistakes at once; no message repeats a secret. Relative paths in
    the file begin at the file's folder. Secrets that are not there are listed in the result.
    """
    # Looked at before it is read: what changes meanwhile is found to differ from this.
    written = _digest_of(path)
    document = read(path)
    settings = _validate(document, folder=path.parent.absolute())
    fingerprint = _with_keys(written, settings)
    unreadable = _unreadable_ca_file(settings)
    findings = find_secrets(settings, environ)
    if unreadable or findings.unusable:
        raise ConfigError([*unreadable, *findings.unusable])
    return Loaded(settings, findings.secrets, findings.missing, fingerprint)


def fingerprint_of(path: Path, settings: Settings) -> str:
    """Return a digest of a settings file and of the files with the keys that it names.

    It looks at what they hold, so it sees through links and mounts that are exchanged, and at file
    systems that keep no times. A file that cannot be read has a digest too.
    """
    return _with_keys(_digest_of(path), settings)


def _with_keys(written: str, settings: Settings) -> str:
    files = (
        *(key.file for team in settings.teams.values() for key in team.keys),
        *(provider.api_key_file for provider in settings.providers.values()),
    )
    return " ".join((written, *(_digest_of(path) for path in files if path is not None)))


def _digest_of(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        return f"unreadable: {error.errno}"


def process_environ() -> Mapping[str, str]:
    """Return the environment of this process: the one place that reads it."""
    return os.environ  # noqa: TID251 - the commands pass it on to `load`


def read(path: Path) -> dict[str, Any]:
    """Return a settings file as it is written, numbers exact. Raises ConfigError."""
    try:
        return tomllib.loads(path.read_bytes().decode(), parse_float=Decimal)
    except OSError as error:
        message = f"cannot be read: {error.strerror or 'input or output error'}"
        raise ConfigError([Problem(str(path), message)]) from None
    except UnicodeDecodeError:
        raise ConfigError([Problem(str(path), "expected text in UTF-8")]) from None
    except tomllib.TOMLDecodeError as error:
        # Its message ends with the line and the column.
        raise ConfigError([Problem(str(path), str(error))]) from None
    except (ValueError, ArithmeticError):
        # Not of tomllib's own: a number with thousands of digits, or an endless exponent.
        raise ConfigError([Problem(str(path), "holds a number that is out of range")]) from None


def _validate(document: dict[str, Any], *, folder: Path) -> Settings:
    broken = broken_rules(document, packaged())
    sections: dict[str, Any] = {name: {} for name in _SECTIONS_WITH_PATHS}
    try:
        settings = Settings.model_validate(sections | document, context={"folder": folder})
    except ValidationError as error:
        raise ConfigError([*problems_in(error, Settings), *broken]) from None
    if broken:
        raise ConfigError(broken)
    if problems := catalog_problems(settings, packaged()):
        raise ConfigError(problems)
    return settings


def _unreadable_ca_file(settings: Settings) -> list[Problem]:
    path = settings.network.ca_file
    if path is None or path.is_file():
        return []
    return [Problem("network.ca_file", "no such file")]

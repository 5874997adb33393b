"""The secrets that a settings file points at.

The plain text of a team's key is hashed as soon as it is read and not kept. A secret that is not
there is no mistake of the file: it is told apart, so that a file can be checked on a machine that
has no secrets. A secret that is there and cannot be used is a mistake.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from pydantic import SecretStr

from gateway.config.addresses import check_optional_url, check_redis_url
from gateway.config.operator_settings import AlertsSettings, TracesSettings
from gateway.config.problems import Place, Problem, dotted
from gateway.config.provider_settings import ProviderSettings
from gateway.config.settings import (
    AssetsSettings,
    RedisSettings,
    ServerSettings,
    Settings,
)
from gateway.config.team_settings import KeySettings
from gateway.domain.ids import TeamId

#: Shorter keys can be guessed at the door; 16 characters of hexadecimal are 64 bits.
MIN_KEY_CHARS = 16

#: What a bearer header carries unharmed.
_HEADER_SAFE = re.compile(r"[!-~]+")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[!-~]([ -~]*[!-~])?")


@dataclass(frozen=True, slots=True)
class KeyOwner:
    """Whose key it is, and what the team calls it."""

    team: TeamId
    key_name: str


@dataclass(frozen=True, slots=True)
class AssetKeys:
    """What opens the store of pictures; empty leaves it to the environment of the process."""

    access: SecretStr
    secret: SecretStr


@dataclass(frozen=True, slots=True)
class Secrets:
    """What was found: the provider's keys by provider name, owners by SHA-256 of the team key.

    `admin_key`, `metrics_token`, `server_secret` and `alert_webhook` are empty when there is none:
    no mistake.
    """

    redis_url: SecretStr
    provider_keys: Mapping[str, SecretStr]
    team_keys: Mapping[bytes, KeyOwner] = field(repr=False)
    admin_key: SecretStr
    metrics_token: SecretStr
    server_secret: SecretStr
    alert_webhook: SecretStr
    asset_keys: AssetKeys
    trace_headers: Mapping[str, SecretStr]


@dataclass(frozen=True, slots=True)
class Findings:
    """The secrets, those that are missing, and those that cannot be used."""

    secrets: Secrets
    missing: tuple[Problem, ...]
    unusable: tuple[Problem, ...]


def find_secrets(settings: Settings, environ: Mapping[str, str]) -> Findings:
    """Read every secret that the settings name from the environment and from files."""
    reader = _Reader(environ)
    secrets = Secrets(
        redis_url=reader.redis_url(settings.redis),
        provider_keys=reader.provider_keys(settings.providers),
        team_keys=reader.team_keys(settings),
        admin_key=SecretStr(environ.get(settings.server.admin_key_env, "").strip()),
        metrics_token=reader.metrics_token(settings.server),
        server_secret=SecretStr(environ.get(settings.server.secret_env, "").strip()),
        alert_webhook=reader.alert_webhook(settings.alerts),
        asset_keys=reader.asset_keys(settings.assets),
        trace_headers=reader.trace_headers(settings.traces),
    )
    return Findings(secrets, tuple(reader.missing), tuple(reader.unusable))


class _Reader:
    """Reads secrets one after another and remembers what went wrong."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.missing: list[Problem] = []
        self.unusable: list[Problem] = []

    def redis_url(self, redis: RedisSettings) -> SecretStr:
        """Return `url`, or what `url_env` holds."""
        place: Place = ("redis", "url_env")
        text = self._variable(place, redis.url_env) if redis.url_env else None
        if text is None:
            return redis.url
        try:
            return check_redis_url(SecretStr(text))
        except ValueError as error:
            self.unusable.append(Problem(dotted(place), f"in {redis.url_env}: {error}"))
            return redis.url

    def alert_webhook(self, alerts: AlertsSettings) -> SecretStr:
        """Return the URL that `webhook_url_env` holds, empty without one."""
        place: Place = ("alerts", "webhook_url_env")
        text = self._variable(place, alerts.webhook_url_env) if alerts.webhook_url_env else None
        try:
            return SecretStr(check_optional_url(text or ""))
        except ValueError as error:
            self.unusable.append(Problem(dotted(place), f"in {alerts.webhook_url_env}: {error}"))
            return SecretStr("")

    def metrics_token(self, server: ServerSettings) -> SecretStr:
        """Return what `metrics_token_env` holds, empty without one."""
        place: Place = ("server", "metrics_token_env")
        name = server.metrics_token_env
        text = self._variable(place, name) if name else None
        if text is None or not self._is_header_safe(place, text):
            return SecretStr("")
        return SecretStr(text)

    def trace_headers(self, traces: TracesSettings) -> dict[str, SecretStr]:
        """Return the headers that `headers_env` holds, by name."""
        place: Place = ("traces", "headers_env")
        text = self._variable(place, traces.headers_env) if traces.headers_env else None
        headers = {}
        for pair in (text or "").split(","):
            name, given, value = (part.strip() for part in pair.partition("="))
            value = unquote(value)
            if not given and not name:
                continue
            if not (given and _HEADER_NAME.fullmatch(name) and _HEADER_VALUE.fullmatch(value)):
                message = f"in {traces.headers_env}: expected name=value, with commas between"
                self.unusable.append(Problem(dotted(place), message))
                return {}
            headers[name.lower()] = SecretStr(value)
        return headers

    def asset_keys(self, assets: AssetsSettings) -> AssetKeys:
        """Return what `access_key_env` and `secret_key_env` hold."""
        names = ("access_key_env", "secret_key_env")
        access, secret = (
            SecretStr((self._variable(("assets", each), name) if name else None) or "")
            for each, name in zip(
                names, (assets.access_key_env, assets.secret_key_env), strict=True
            )
        )
        return AssetKeys(access, secret)

    def provider_keys(self, providers: Mapping[str, ProviderSettings]) -> dict[str, SecretStr]:
        """Return the API key of every provider that has one here."""
        keys = {}
        for name, provider in providers.items():
            if provider.api_key_file is not None:
                place: Place = ("providers", name, "api_key_file")
                text = self._file(place, provider.api_key_file)
            else:
                place = ("providers", name, "api_key_env")
                text = self._variable(place, provider.api_key_env)
            if text is not None and self._is_header_safe(place, text):
                keys[name] = SecretStr(text)
        return keys

    def team_keys(self, settings: Settings) -> dict[bytes, KeyOwner]:
        """Return the owner of every team key that is here, by the key's SHA-256."""
        owners: dict[bytes, KeyOwner] = {}
        places: dict[bytes, Place] = {}
        for team, team_settings in settings.teams.items():
            for index, key in enumerate(team_settings.keys):
                place = ("teams", team, "keys", index)
                digest = self._digest(place, key)
                if digest is None:
                    continue
                if digest in owners:
                    first = dotted(places[digest])
                    self.unusable.append(Problem(dotted(place), f"the same key as {first}"))
                owners[digest] = KeyOwner(TeamId(team), key.name)
                places[digest] = place
        return owners

    def _digest(self, place: Place, key: KeySettings) -> bytes | None:
        if key.sha256:
            return bytes.fromhex(key.sha256)
        if key.file is not None:
            place = (*place, "file")
            text = self._file(place, key.file)
        else:
            place = (*place, "env")
            text = self._variable(place, key.env)
        if text is None or not self._is_header_safe(place, text):
            return None
        if len(text) < MIN_KEY_CHARS:
            message = f"the key is too short; expected {MIN_KEY_CHARS} characters or more"
            self.unusable.append(Problem(dotted(place), message))
            return None
        return hashlib.sha256(text.encode()).digest()

    def _is_header_safe(self, place: Place, text: str) -> bool:
        if _HEADER_SAFE.fullmatch(text):
            return True
        message = "the key has characters that no HTTP header carries; expected ASCII, no spaces"
        self.unusable.append(Problem(dotted(place), message))
        return False

    def _variable(self, place: Place, name: str) -> str | None:
        text = self._environ.get(name, "").strip()
        if not text:
            self.missing.append(Problem(dotted(place), f"{name} is not set in the environment"))
        return text or None

    def _file(self, place: Place, path: Path) -> str | None:
        try:
            text = path.read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            # Not the path: it may be a key that was written where its file belongs.
            reason = (isinstance(error, OSError) and error.strerror) or "not text"
            self.missing.append(Problem(dotted(place), f"the file cannot be read: {reason}"))
            return None
        if not text:
            self.missing.append(Problem(dotted(place), "the file is empty"))
        return text or None

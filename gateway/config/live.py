"""Which settings a gateway takes over while it runs, and what differs between two files.

This is the one place that says so, for every setting; a test refuses one that has not chosen. What
is fixed is open or counted upon as long as the process lives: sockets, connections, folders, and
promises that other replicas rely on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gateway.config.credentials import Secrets
from gateway.config.problems import Place, Problem, dotted
from gateway.config.settings import Settings
from gateway.config.values import Section

#: Settings by their place in the file, without the names that operators give; a table stands for
#: all that is in it.
LIVE = frozenset(
    {
        *("teams", "organization", "models", "prices", "output_tokens", "privacy"),
        *("server.wait", "server.keepalive_after", "server.heartbeat", "server.body_timeout"),
        *("server.max_body", "server.max_upload", "server.compat", "server.default_model"),
        *("server.cors_origins", "server.trusted_proxies", "server.help_url"),
        *("assets.keep", "polling.budget"),
        *("providers.credits_per_usd", "providers.image_urls"),
        *("providers.max_in_flight", "providers.max_submits_per_second"),
        *("providers.api_key_env", "providers.api_key_file"),
    }
)

FIXED = frozenset(
    {
        *("redis", "network", "callbacks", "references", "ledger", "log", "alerts", "traces"),
        *("server.host", "server.port", "server.admin_listen", "server.tls_cert", "server.tls_key"),
        *("server.public_url", "server.secret_env", "server.admin_key_env"),
        *("server.metrics_token_env", "server.watch"),
        *("server.deadline", "server.abandon_after", "server.lease", "server.drain"),
        *("assets.url", "assets.shared", "assets.endpoint", "assets.region", "assets.min_free"),
        *("assets.access_key_env", "assets.secret_key_env"),
        *("polling.min_interval", "polling.max_concurrent"),
        *("providers.kind", "providers.base_url", "providers.files_url", "providers.references"),
        *("providers.idempotency", "providers.result_hosts", "providers.max_result"),
        *("providers.submit_timeout", "providers.poll_timeout", "providers.upload_timeout"),
        *("providers.fetch_timeout", "providers.balance_every", "providers.max_polls_per_second"),
    }
)

#: Tables whose entries have names of the operator's choice.
_NAMED = frozenset({"providers", "models", "prices", "output_tokens", "teams"})

_RESTART = "cannot change while the gateway runs: restart it"


def is_live(place: Place) -> bool:
    """Tell whether what stands at a place of the file is taken over by a gateway that runs."""
    named = len(place) > 1 and place[0] in _NAMED
    steps = [str(step) for step in (place[:1] + place[2:] if named else place)]
    return any(".".join(steps[:length]) in LIVE for length in range(1, len(steps) + 1))


def changes(before: Settings, after: Settings) -> tuple[Place, ...]:
    """Return the places whose settings differ, in the order of the file's types.

    A table that is new or gone is one place, and so is a list.
    """
    return tuple(_differences((), before, after))


def unchangeable(before: Settings, after: Settings) -> list[Problem]:
    """Return a problem for each setting that differs and is fixed while the gateway runs."""
    return [
        Problem(dotted(place), _RESTART) for place in changes(before, after) if not is_live(place)
    ]


def changed_secrets(settings: Settings, before: Secrets, after: Secrets) -> tuple[Place, ...]:
    """Return the places of secrets that differ and are live; keys of teams are one place."""
    places: list[Place] = [("teams",)] if before.team_keys != after.team_keys else []
    for name, provider in settings.providers.items():
        if before.provider_keys.get(name) != after.provider_keys.get(name):
            key = "api_key_env" if provider.api_key_file is None else "api_key_file"
            places.append(("providers", name, key))
    return tuple(places)


def unchangeable_secrets(before: Secrets, after: Secrets) -> list[Problem]:
    """Return a problem for each secret that differs, but for those that are live.

    Those are the keys of teams, and of upstreams' accounts.
    """
    places: dict[str, tuple[Any, Any]] = {
        "redis.url_env": (before.redis_url, after.redis_url),
        "server.admin_key_env": (before.admin_key, after.admin_key),
        "server.metrics_token_env": (before.metrics_token, after.metrics_token),
        "server.secret_env": (before.server_secret, after.server_secret),
        "alerts.webhook_url_env": (before.alert_webhook, after.alert_webhook),
        "assets.access_key_env": (before.asset_keys.access, after.asset_keys.access),
        "assets.secret_key_env": (before.asset_keys.secret, after.asset_keys.secret),
        "traces.headers_env": (before.trace_headers, after.trace_headers),
    }
    return [
        Problem(place, f"the secret {_RESTART}")
        for place, (old, new) in places.items()
        if old != new
    ]


def _differences(place: Place, before: Any, after: Any) -> Iterator[Place]:
    if before == after:
        return
    if isinstance(before, Section) and type(before) is type(after):
        for name, field in type(before).model_fields.items():
            below = (*place, field.alias or name)
            yield from _differences(below, getattr(before, name), getattr(after, name))
    elif isinstance(before, Mapping) and isinstance(after, Mapping):
        for name in dict.fromkeys((*before, *after)):
            yield from _differences((*place, name), before.get(name), after.get(name))
    else:
        yield place

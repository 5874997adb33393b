"""What parts of the house are told of the settings, in their own words."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from gateway.assets.folder import mark_of
from gateway.assets.place import AssetPlace
from gateway.callbacks.courier import CourierSettings
from gateway.config.load import Loaded
from gateway.config.settings import RedisSettings, Settings
from gateway.domain.catalog import Model
from gateway.domain.images import Operation
from gateway.store.client import Store
from gateway.store.connect import Acknowledgement
from gateway.tasks.admissions import Keeping
from gateway.tasks.gate import Capacity
from gateway.tasks.latencies import PollingLimits
from gateway.tasks.neighbours import Neighbours
from gateway.tasks.replica import Replica
from gateway.tasks.steps import Patience

log = structlog.get_logger(__name__)

#: An answer that nobody fetched may be fetched by a retry for this long (design rule 11).
JOINABLE_MS = 3_600_000


def keeping_of(settings: Settings) -> Keeping:
    """Return how long tasks and what joins them is kept."""
    keep_ms = settings.assets.keep_ms
    return Keeping(
        record_ms=keep_ms,
        answer_ms=min(keep_ms, JOINABLE_MS),
        listed_ms=keep_ms + settings.server.abandon_after_ms,
        prompts_ms=settings.privacy.keep_prompts_ms,
    )


def polling_limits_of(settings: Settings) -> PollingLimits:
    """Return the shortest gap between polls by provider, and how many a task may have."""
    floor_s = settings.polling.min_interval_ms / 1000
    return PollingLimits(
        floors_s=dict.fromkeys(settings.providers, floor_s), budget=settings.polling.budget
    )


def patience_of(settings: Settings) -> Patience:
    """Return how long renders are waited for."""
    return Patience(
        deadline_s=settings.server.deadline_ms / 1000,
        abandon_after_s=settings.server.abandon_after_ms / 1000,
        # What nobody knows the fate of is held for as long as a render may take to be submitted.
        unknown_s=settings.server.deadline_ms / 1000,
    )


def acknowledgement_of(settings: RedisSettings) -> Acknowledgement | None:
    """Return who must know of an order before it leaves; within half the time of a call."""
    if not settings.acknowledge_replicas and not settings.acknowledge_on_disk:
        return None
    return Acknowledgement(
        replicas=settings.acknowledge_replicas,
        within_ms=max(settings.timeout_ms // 2, 1),
        on_disk=settings.acknowledge_on_disk,
    )


def asset_place(loaded: Loaded) -> AssetPlace:
    """Return where pictures are kept, with what opens it."""
    assets, keys = loaded.settings.assets, loaded.secrets.asset_keys
    return AssetPlace(
        url=assets.url,
        endpoint=assets.endpoint,
        region=assets.region,
        access_key=keys.access.get_secret_value(),
        secret_key=keys.secret.get_secret_value(),
    )


def neighbours_of(
    settings: Settings, store: Store, replica: Replica, random_bytes: Callable[[int], bytes]
) -> Neighbours:
    """Return what sees to it that other gateways keep pictures in the same place."""
    assets = settings.assets
    if assets.url == "memory:":
        return Neighbours(
            store,
            replica,
            place=replica.id,
            problem="memory: is of one process, and another gateway runs on the same store: use"
            " s3://, gs:// or az://, or a folder that all of them mount",
        )
    place = ""
    if assets.folder is not None and not assets.shared:
        try:
            place = mark_of(assets.folder, random_bytes)
        except OSError as error:
            log.warning("folder_unmarked", action="folder_unmarked", reason=type(error).__name__)
    return Neighbours(
        store,
        replica,
        place=place,
        problem="another gateway on the same store keeps pictures in another folder than this one,"
        " so that neither finds those of the other: use s3://, gs:// or az://, mount one folder"
        " everywhere, or say shared = true where the folders are one after all",
    )


def courier_settings_of(settings: Settings) -> CourierSettings:
    """Return how clients are called back."""
    callbacks = settings.callbacks
    return CourierSettings(
        timeout_s=callbacks.timeout_ms / 1000,
        max_concurrent=callbacks.max_concurrent,
        max_concurrent_per_team=max(1, callbacks.max_concurrent // 4),
    )


def capacities_of(settings: Settings) -> dict[str, Capacity]:
    """Return how much each account takes at once and in a second."""
    return {
        name: Capacity(provider.max_in_flight, provider.max_submits_per_second)
        for name, provider in settings.providers.items()
    }


def passes_links(settings: Settings, model: Model) -> bool:
    """Tell whether everybody who may make this model's edits fetches links by themselves."""
    providers = {offer.provider for offer in model.offers_for(Operation.EDIT)}
    return all(settings.providers[name].image_urls == "pass" for name in providers)

"""Gauges that follow parts of the house."""

from __future__ import annotations

from datetime import UTC, datetime, time
from functools import partial

from gateway.assets.object_store import FULL, UNAVAILABLE, ObjectAssetStore
from gateway.config.settings import Settings
from gateway.domain.catalog import Catalog
from gateway.domain.clock import Clock
from gateway.tasks.engine import Engine
from gateway.tasks.turnstile import Turnstile
from gateway.telemetry.metrics import Metrics


def show_assets(metrics: Metrics, assets: ObjectAssetStore) -> None:
    """Show whether the store of pictures is full, and how much room it has."""
    for reason in (FULL, UNAVAILABLE):
        metrics.asset_errors.labels("write", reason)
    metrics.follow(metrics.assets_full, lambda: float(assets.is_full))
    if assets.free_bytes is not None:
        metrics.follow(metrics.assets_free, lambda: float(assets.free_bytes or 0))


def show_queues(metrics: Metrics, turnstile: Turnstile, settings: Settings) -> None:
    """Show how many renders wait for each account."""
    for name in settings.providers:
        metrics.follow(metrics.queue_length.labels(name), partial(turnstile.queue_length, name))


def show_engine(metrics: Metrics, engine: Engine, clock: Clock) -> None:
    """Show the age of the oldest task that runs here, and the pictures without a place."""
    metrics.follow(metrics.task_age, partial(_oldest_s, engine, clock))
    metrics.follow(metrics.assets_waiting, lambda: float(engine.unstored))


def show_retirements(
    metrics: Metrics, catalog: Catalog, clock: Clock, *, before: Catalog | None = None
) -> None:
    """Show how far away the ends are that the catalogue knows, and no more those of one before."""
    gone = set() if before is None else _retiring(before)
    for name, provider in gone - _retiring(catalog):
        metrics.forget(metrics.model_retires, name, provider)
    for model in catalog.models.values():
        for offer in model.offers:
            if offer.retires is not None:
                ends = datetime.combine(offer.retires, time(), UTC)
                gauge = metrics.model_retires.labels(model.name, offer.provider)
                metrics.follow(gauge, partial(_seconds_until, ends.timestamp(), clock))


def _retiring(catalog: Catalog) -> set[tuple[str, str]]:
    return {
        (model.name, offer.provider)
        for model in catalog.models.values()
        for offer in model.offers
        if offer.retires is not None
    }


def _seconds_until(moment_s: float, clock: Clock) -> float:
    return moment_s - clock.now_ms() / 1000


def _oldest_s(engine: Engine, clock: Clock) -> float:
    """Return how long ago the oldest task that runs here was admitted."""
    oldest_ms = min((live.task.created_ms for live in engine.running.values()), default=None)
    return 0.0 if oldest_ms is None else max(clock.now_ms() - oldest_ms, 0) / 1000

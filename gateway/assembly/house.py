"""Opens the house: every part that lives as long as the process, in the order of their needs."""

from __future__ import annotations

import random
import secrets as randomness
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry

from gateway import __version__
from gateway.access.redis_accounts import RedisAccounts
from gateway.access.server_signer import ServerSigner
from gateway.assembly.from_settings import (
    acknowledgement_of,
    asset_place,
    capacities_of,
    courier_settings_of,
    keeping_of,
    neighbours_of,
    patience_of,
    polling_limits_of,
)
from gateway.assembly.gateway import Gateway, InForce
from gateway.assembly.gauges import show_assets, show_engine, show_queues
from gateway.assembly.traces import open_tracer
from gateway.assembly.ways_out import (
    fetchers_of,
    file_services_of,
    open_clients,
    open_remote_pictures,
    providers_of,
    upstreams_of,
)
from gateway.assets.convert import Converter
from gateway.assets.object_store import ObjectAssetStore
from gateway.assets.straight import StraightAssets
from gateway.assets.sweeper import Sweeper
from gateway.background import Background, SystemClock
from gateway.callbacks.courier import Courier
from gateway.callbacks.deliveries import Deliveries
from gateway.callbacks.team_secrets import TeamSecrets
from gateway.config.addresses import EMBEDDED
from gateway.config.catalog import catalog_from
from gateway.config.load import Loaded
from gateway.config.organization import organization_budgets
from gateway.config.settings import Settings
from gateway.domain.errors import StoreUnavailable
from gateway.domain.ids import ID_BYTES, make_replica_id
from gateway.domain.task import Task
from gateway.ledger.catch_up import CatchUp
from gateway.ledger.entries import parse_entry
from gateway.ledger.holds import Standing
from gateway.ledger.organization import Organization
from gateway.ledger.orphans import Orphans
from gateway.ledger.outbox import Outbox
from gateway.ledger.redis_alerts import RedisAlertMarks
from gateway.ledger.redis_books import BelowZeroError, Correction, RedisBooks
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.retention import Retention
from gateway.network.clients import build_guarded_client
from gateway.network.guard import Guard
from gateway.service.alerts import Alerts
from gateway.service.callbacks import Callbacks
from gateway.service.deletion import Deletion
from gateway.service.snapshot import Snapshot
from gateway.service.webhook import Webhook
from gateway.store.check import check_server
from gateway.store.client import Store
from gateway.store.connect import Acknowledgement
from gateway.store.embedded import EmbeddedServer
from gateway.tasks.accounting import Accounting
from gateway.tasks.engine import Engine
from gateway.tasks.forgetting import Forgetting
from gateway.tasks.latencies import Latencies, priors_of
from gateway.tasks.lateness import Lateness
from gateway.tasks.permits import RedisPermits
from gateway.tasks.poll_rate import PollRates
from gateway.tasks.poller import Poller
from gateway.tasks.price_books import PriceBooks
from gateway.tasks.recovery import Recovery
from gateway.tasks.redis_tasks import RedisTaskStore
from gateway.tasks.reference_links import StoredReferenceLinks
from gateway.tasks.replica import Replica
from gateway.tasks.shelf import Shelf
from gateway.tasks.steps import Chance, Surroundings
from gateway.tasks.turnstile import Turnstile
from gateway.tasks.unfetched import Unfetched
from gateway.tasks.waiting import Waiting
from gateway.tasks.wake import Wake
from gateway.telemetry.metrics import Metrics

#: A stop waits this much longer for running steps than for the requests that wait for them.
STEP_GRACE_S = 5.0

#: A link to a reference is good for so long after its order was last submitted.
LINK_MARGIN_MS = 3_600_000


@asynccontextmanager
async def open_house(  # noqa: PLR0915 - one for each part
    loaded: Loaded,
    *,
    reached: Callable[[str], None],
    house: bytes,
    shared_metrics: Path | None,
) -> AsyncIterator[Gateway]:
    """Open what lives as long as the process, still without a front; close it all in reverse.

    See `build`, which adds the front; it raises what this raises.
    """
    secrets = loaded.require_secrets()
    settings = loaded.settings
    clock = SystemClock()
    in_force = InForce()
    metrics = Metrics(CollectorRegistry(), version=__version__, shared=shared_metrics)
    async with AsyncExitStack() as stack:
        redis_url = secrets.redis_url.get_secret_value()
        embedded = None
        if redis_url == EMBEDDED:
            embedded = EmbeddedServer(settings.redis.data_dir)
            stack.push_async_callback(embedded.stop)
            await embedded.start()
            redis_url = embedded.url
        store = await stack.enter_async_context(
            Store(redis_url, timeout_ms=settings.redis.timeout_ms)
        )
        acknowledgement = None if embedded is not None else acknowledgement_of(settings.redis)
        store_checked = embedded is not None or await _is_checked(store, acknowledgement)
        replica = Replica(
            store,
            clock,
            id=make_replica_id(house + randomness.token_bytes(ID_BYTES - len(house))),
            lease_s=settings.server.lease_ms / 1000,
        )
        tracer = open_tracer(stack, loaded, replica.id)
        wake = Wake(store, id=replica.id)
        organization = Organization(store, clock, organization_budgets(settings.organization))
        outbox = Outbox(store, organization, clock)
        books = RedisBooks(store)
        tasks = RedisTaskStore(
            store,
            clock,
            owner=replica.id,
            keeping=keeping_of(settings),
            tells_organization=organization.has_budgets,
            attendance=replica.attendance,
            acknowledgement=acknowledgement,
        )
        assets = ObjectAssetStore.open(
            asset_place(loaded),
            min_free_bytes=settings.assets.min_free_bytes,
            observe=lambda verb, reason: metrics.asset_errors.labels(verb, reason).inc(),
        )
        show_assets(metrics, assets)
        price_books = PriceBooks(tasks.book)
        neighbours = neighbours_of(settings, store, replica, randomness.token_bytes)
        if store_checked:
            with suppress(StoreUnavailable):
                await neighbours.check()
        converter = Converter()
        stack.callback(converter.close)
        clients = await open_clients(stack, settings.network)
        providers = providers_of(loaded, clients, clock, metrics)
        file_services = file_services_of(loaded, clients, clock, metrics)
        shelf = Shelf(tasks)
        turnstile = Turnstile(
            capacities_of(settings),
            permits=RedisPermits(store, replica=replica.id),
            is_live=tasks.which_live,
            clock=clock,
        )
        show_queues(metrics, turnstile, settings)
        stack.push_async_callback(_last_flush, shelf, turnstile, outbox)
        background = await stack.enter_async_context(
            Background(
                grace_s=settings.server.drain_ms / 1000 + STEP_GRACE_S,
                count_death=lambda loop: metrics.loop_deaths.labels(loop).inc(),
            )
        )
        latencies = Latencies(
            store,
            clock,
            limits=polling_limits_of(settings),
            priors=priors_of(catalog_from(settings)),
        )
        poll_rates = PollRates(
            store,
            clock,
            replica=replica.id,
            polls_per_second={
                name: provider.max_polls_per_second for name, provider in settings.providers.items()
            },
        )
        poller = Poller(
            clock,
            background,
            max_concurrent=settings.polling.max_concurrent,
            take=poll_rates.take,
            observe=Lateness(metrics, clock, settings.providers).observe,
        )
        signing = ServerSigner(
            store,
            given=secrets.server_secret.get_secret_value(),
            random_bytes=randomness.token_bytes,
        )
        callbacks = None
        if settings.server.public_url:
            callbacks = Callbacks(
                tasks,
                wake,
                signing.signer,
                settings.server.public_url.rstrip("/"),
                lambda outcome: metrics.callbacks.labels("in", outcome).inc(),
            )
        guard = Guard(settings.callbacks.allow)
        deliveries = Deliveries(store, clock)
        team_secrets = TeamSecrets(store, clock, randomness.token_bytes)
        courier = Courier(
            deliveries=deliveries,
            secrets=team_secrets,
            client=await stack.enter_async_context(
                build_guarded_client(guard, ca_file=str(settings.network.ca_file or ""))
            ),
            background=background,
            clock=clock,
            random_bytes=randomness.token_bytes,
            observe=lambda outcome: metrics.callbacks.labels("out", outcome).inc(),
            settings=courier_settings_of(settings),
        )
        fetchers = fetchers_of(loaded, clients, assets, converter, clock)
        straight = StraightAssets(assets, fetchers)
        engine = Engine(
            Surroundings(
                store=tasks,
                providers=providers,
                fetchers=fetchers,
                straight=straight,
                poller=poller,
                organization=organization,
                catch_up=CatchUp(store, organization, outbox, tasks.teams),
                outbox=outbox,
                turnstile=turnstile,
                latencies=latencies,
                shelf=shelf,
                replica=replica,
                background=background,
                clock=clock,
                accounting=Accounting(metrics),
                patience=patience_of(settings),
                references=StoredReferenceLinks(
                    store,
                    assets,
                    clock,
                    services=file_services,
                    make_link=in_force.reference_url,
                    random_bytes=randomness.token_bytes,
                    valid_ms=settings.server.deadline_ms + LINK_MARGIN_MS,
                ),
                price_books=price_books,
                chance=Chance(random_bytes=randomness.token_bytes, fraction=random.random),
                correct=partial(_correct, books),
                call_back=partial(_call_back, in_force, deliveries, courier),
                callback_url=None if callbacks is None else callbacks.url,
                logs_prompt_hashes=settings.log.prompt_hashes,
                reached=reached,
                tracer=tracer,
            ),
            wake,
            in_force.find_offer,
        )
        waiting = Waiting(
            tasks,
            engine.running,
            clock,
            deadline_s=settings.server.deadline_ms / 1000,
            with_straight=straight.with_straight,
        )
        show_engine(metrics, engine, clock)
        recovery = Recovery(tasks, engine, replica, shelf, clock)
        for hear in (engine.hear, waiting.hear, recovery.hear):
            wake.listen(hear)
        ledger = RedisLedger(store, clock)
        alerts = None
        if secrets.alert_webhook.get_secret_value():
            alerts = Alerts(
                RedisAlertMarks(store, replica=replica.id),
                # A connection of its own for each call, as for paid posts: they are rare.
                Webhook(clients.submit, secrets.alert_webhook),
                clock,
                count=lambda outcome: metrics.alerts.labels(outcome).inc(),
            )
        yield Gateway(
            organization=organization,
            in_force=in_force,
            clock=clock,
            metrics=metrics,
            tracer=tracer,
            background=background,
            store=store,
            store_checked=store_checked,
            acknowledgement=acknowledgement,
            embedded=embedded,
            accounts=RedisAccounts(store),
            ledger=ledger,
            books=books,
            providers=providers,
            file_services=file_services,
            assets=straight,
            remote_pictures=await open_remote_pictures(stack, settings),
            guard=guard,
            signing=signing,
            team_secrets=team_secrets,
            callbacks=callbacks,
            poller=poller,
            outbox=outbox,
            orphans=Orphans(store, organization, outbox, clock),
            turnstile=turnstile,
            latencies=latencies,
            poll_rates=poll_rates,
            shelf=shelf,
            replica=replica,
            neighbours=neighbours,
            wake=wake,
            recovery=recovery,
            engine=engine,
            waiting=waiting,
            courier=courier,
            store_tasks=tasks,
            price_books=price_books,
            snapshot=Snapshot(
                ledger,
                in_force,
                metrics,
                tell=_nobody if alerts is None else alerts.see,
                undelivered=Unfetched(store, clock, replica.attendance).microusd,
                shared=in_force.organization_budgets,
            ),
            upstreams=upstreams_of(settings, providers, metrics, clock),
            alerts=alerts,
            retention=_retention(settings, store, books, in_force, replica.id),
            deletion=Deletion(tasks.read, Forgetting(store), straight, flush=shelf.flush),
            sweeper=Sweeper(assets, clock, read_keep=in_force.read_keep),
        )


async def _is_checked(store: Store, acknowledgement: Acknowledgement | None) -> bool:
    """Return False for a store that does not answer yet: a gateway may start before it."""
    try:
        await check_server(store, acknowledgement)
    except StoreUnavailable:
        return False
    return True


def _nobody(_: Sequence[Standing]) -> None:
    """Announce nothing: there is no webhook."""


def _retention(
    settings: Settings, store: Store, books: RedisBooks, in_force: InForce, replica: str
) -> Retention | None:
    if settings.ledger.keep_ms is None:
        return None
    return Retention(
        store, books, in_force.team_names, keep_ms=settings.ledger.keep_ms, replica=replica
    )


async def _correct(books: RedisBooks, task: Task, render: int, delta_microusd: int) -> None:
    """Book what the upstream told later, in place of an estimate."""
    end = await books.end_of(task.team, task.id, render=str(render))
    if end is None:
        return
    correction = Correction(
        id=f"{task.id}:{render}:usage",
        delta_microusd=delta_microusd,
        reason="the upstream told its usage later",
        by="gateway",
    )
    # An estimate is at least what is taken back of it.
    with suppress(BelowZeroError):
        await books.adjust(task.team, parse_entry(end), correction)


async def _call_back(
    in_force: InForce, deliveries: Deliveries, courier: Courier, task: Task
) -> None:
    await deliveries.enqueue(await in_force.callback_of(task))
    courier.wake(task.team)


async def _last_flush(shelf: Shelf, turnstile: Turnstile, outbox: Outbox) -> None:
    with suppress(StoreUnavailable):
        await shelf.flush()
        await turnstile.flush()
        await outbox.flush_noted()

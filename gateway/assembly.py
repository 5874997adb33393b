"""The one place where concrete classes are named: settings in, a wired gateway out."""

from __future__ import annotations

import random
import secrets as randomness
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, time
from functools import partial
from pathlib import Path

import httpx
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from gateway import __version__
from gateway.access.admin_key import weak_admin_key
from gateway.access.directory import AccountKeys
from gateway.access.file_keys import FileKeys
from gateway.access.interface import KeyDirectory
from gateway.access.redis_accounts import RedisAccounts
from gateway.access.server_signer import ServerSigner
from gateway.access.teams import AllTeams
from gateway.assets.convert import Converter
from gateway.assets.download import FetchSettings
from gateway.assets.ingest import HttpPictureFetcher
from gateway.assets.interface import AssetStore, KeepOf
from gateway.assets.object_store import FULL, UNAVAILABLE, ObjectAssetStore
from gateway.assets.place import AssetPlace
from gateway.assets.remote import MAX_REDIRECTS, RemoteLimits, RemotePictures
from gateway.assets.spool import open_spool_folder
from gateway.assets.straight import StraightAssets
from gateway.assets.sweeper import Sweeper
from gateway.background import Background, SystemClock
from gateway.callbacks.courier import Courier, CourierSettings
from gateway.callbacks.deliveries import Deliveries
from gateway.callbacks.team_secrets import TeamSecrets
from gateway.config.addresses import EMBEDDED
from gateway.config.catalog import catalog_from
from gateway.config.load import Loaded
from gateway.config.organization import organization_budgets
from gateway.config.problems import ConfigError, Problem
from gateway.config.provider_settings import ProviderSettings
from gateway.config.settings import NetworkSettings, RedisSettings, Settings
from gateway.config.teams import callers_from
from gateway.domain.catalog import Catalog, Model
from gateway.domain.clock import Clock
from gateway.domain.errors import StoreUnavailable
from gateway.domain.ids import ID_BYTES, TeamId, make_replica_id
from gateway.domain.images import Operation
from gateway.domain.references import MAX_REFERENCE_BYTES
from gateway.domain.task import Task
from gateway.ledger.entries import parse_entry
from gateway.ledger.holds import Standing
from gateway.ledger.organization import Organization
from gateway.ledger.orphans import Orphans
from gateway.ledger.outbox import Outbox
from gateway.ledger.redis_alerts import RedisAlertMarks
from gateway.ledger.redis_books import BelowZeroError, Correction, RedisBooks
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.redis_top_ups import RedisTopUps
from gateway.ledger.retention import Retention
from gateway.network.clients import (
    build_fetch_client,
    build_guarded_client,
    build_poll_client,
    build_submit_client,
)
from gateway.network.guard import Guard
from gateway.providers.evolink import EvolinkProvider, EvolinkSettings
from gateway.providers.evolink_files import EvolinkFiles, FileServiceSettings
from gateway.providers.interface import FileService, Provider
from gateway.service.admin import Admin
from gateway.service.alerts import Alerts
from gateway.service.budgets import Budgets
from gateway.service.callbacks import Callbacks
from gateway.service.client_callbacks import ClientCallbacks
from gateway.service.deletion import Deletion
from gateway.service.evolink import EvolinkService
from gateway.service.images import ImageService, offer_of
from gateway.service.links import Links
from gateway.service.quotes import QuoteService
from gateway.service.references import References
from gateway.service.snapshot import Snapshot
from gateway.service.tasks import TaskService
from gateway.service.upstreams import Upstreams
from gateway.service.usage import UsageService
from gateway.service.webhook import Webhook
from gateway.service.webhooks import Webhooks
from gateway.store.check import check_server, check_when_reachable
from gateway.store.client import Store
from gateway.store.connect import Acknowledgement
from gateway.store.embedded import EmbeddedServer
from gateway.tasks.accounting import Accounting
from gateway.tasks.admissions import Keeping
from gateway.tasks.engine import Engine
from gateway.tasks.forgetting import Forgetting
from gateway.tasks.gate import Capacity
from gateway.tasks.latencies import Latencies, PollingLimits, priors_of
from gateway.tasks.lateness import Lateness
from gateway.tasks.patience import until_stored
from gateway.tasks.permits import RedisPermits
from gateway.tasks.poll_rate import PollRates
from gateway.tasks.poller import Poller
from gateway.tasks.recovery import Recovery
from gateway.tasks.redis_tasks import RedisTaskStore
from gateway.tasks.reference_links import StoredReferenceLinks
from gateway.tasks.replica import Replica
from gateway.tasks.shelf import Shelf
from gateway.tasks.steps import Chance, Patience, Surroundings
from gateway.tasks.turnstile import Turnstile
from gateway.tasks.unfetched import Unfetched
from gateway.tasks.waiting import Waiting
from gateway.tasks.wake import Wake
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.traces import NO_TRACER, Tracer

Providers = Mapping[str, Provider]

#: A stop waits this much longer for running steps than for the requests that wait for them.
STEP_GRACE_S = 5.0

#: A link to a reference is good for so long after its order was last submitted.
LINK_MARGIN_MS = 3_600_000

#: An answer that nobody fetched may be fetched by a retry for this long (design rule 11).
JOINABLE_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Gateway:
    """Everything the ways in need. Its loops run from `start` on."""

    settings: Settings
    clock: Clock
    metrics: Metrics
    tracer: Tracer
    background: Background
    keys: KeyDirectory
    admin: Admin
    webhooks: Webhooks
    budgets: Budgets
    admin_key: SecretStr
    metrics_token: SecretStr
    images: ImageService
    tasks: TaskService
    callbacks: Callbacks | None
    quotes: QuoteService
    usage: UsageService
    evolink: EvolinkService
    links: Links
    references: References
    assets: AssetStore
    store: Store
    store_checked: bool
    acknowledgement: Acknowledgement | None
    embedded: EmbeddedServer | None
    poller: Poller
    outbox: Outbox
    orphans: Orphans
    turnstile: Turnstile
    latencies: Latencies
    poll_rates: PollRates
    shelf: Shelf
    replica: Replica
    wake: Wake
    recovery: Recovery
    engine: Engine
    courier: Courier
    store_tasks: RedisTaskStore
    snapshot: Snapshot
    upstreams: Upstreams | None
    alerts: Alerts | None
    retention: Retention | None
    deletion: Deletion
    sweeper: Sweeper

    def start(self) -> None:
        """Start the background loops."""
        self.background.loop("poller", self.poller.run)
        self.background.loop("outbox", partial(self.outbox.run, self._teams))
        self.background.loop("orphans", self.orphans.run)
        self.background.loop("turnstile", self.turnstile.run)
        self.background.loop("latencies", self.latencies.run)
        self.background.loop("poll_rates", self.poll_rates.run)
        self.background.loop("shelf", self.shelf.run)
        self.background.loop("replica", self.replica.run)
        self.background.loop("wake", self.wake.run)
        self.background.loop("recovery", self.recovery.run)
        self.background.loop("reconciler", self.engine.reconciler.run)
        self.background.loop("callbacks", partial(self.courier.run, self.store_tasks.teams))
        self.background.loop("snapshot", self.snapshot.run)
        self.background.loop("sweeper", self.sweeper.run)
        if self.alerts is not None:
            self.background.loop("alerts", self.alerts.run)
        if self.retention is not None:
            self.background.loop("retention", self.retention.run)
        if self.embedded is not None:
            self.background.loop("embedded_server", self.embedded.supervise)
        if not self.store_checked:
            check = partial(check_when_reachable, self.store, self.acknowledgement)
            self.background.loop("store_check", check)
        if self.upstreams is not None:
            self.background.loop("upstreams", self.upstreams.run)
        for loop in self.background.running_loops:
            self.metrics.loop_deaths.labels(loop)

    async def _teams(self) -> list[TeamId]:
        return sorted(await self.store_tasks.teams())


@asynccontextmanager
async def build(  # noqa: PLR0915 - one for each part
    loaded: Loaded,
    *,
    reached: Callable[[str], None] = lambda _: None,
    house: bytes = b"",
    shared_metrics: Path | None = None,
) -> AsyncIterator[Gateway]:
    """Wire a gateway and open what it needs; close it all in reverse.

    `reached` is told where renders are, at every point where a crash would matter; for tests.
    Workers of one parent are given their `house` (how their ids begin) and the folder of the
    metrics that they share.
    Raises ConfigError for secrets that are missing, a weak admin key or a store that would lose
    money, EmbeddedServerError when the store of our own cannot be started, and
    AssetUnavailableError for a picture store that cannot be opened.
    """
    secrets = loaded.require_secrets()
    _refuse_weak(secrets.admin_key)
    settings = loaded.settings
    clock = SystemClock()
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
        acknowledgement = None if embedded is not None else _acknowledgement(settings.redis)
        store_checked = embedded is not None or await _is_checked(store, acknowledgement)
        replica = Replica(
            store,
            clock,
            id=make_replica_id(house + randomness.token_bytes(ID_BYTES - len(house))),
            lease_s=settings.server.lease_ms / 1000,
        )
        tracer = await _open_tracer(stack, loaded, replica.id)
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
            acknowledgement=acknowledgement,
        )
        assets = ObjectAssetStore.open(
            asset_place(loaded),
            min_free_bytes=settings.assets.min_free_bytes,
            observe=lambda verb, reason: metrics.asset_errors.labels(verb, reason).inc(),
        )
        _show_assets(metrics, assets)
        converter = Converter()
        stack.callback(converter.close)
        clients = await _open_clients(stack, settings.network)
        providers = _providers(loaded, clients, clock, metrics)
        shelf = Shelf(tasks)
        turnstile = Turnstile(
            {
                name: Capacity(provider.max_in_flight, provider.max_submits_per_second)
                for name, provider in settings.providers.items()
            },
            permits=RedisPermits(store, replica=replica.id),
            is_live=tasks.which_live,
            clock=clock,
        )
        _show_queues(metrics, turnstile, settings)
        stack.push_async_callback(_last_flush, shelf, turnstile, outbox)
        background = await stack.enter_async_context(
            Background(
                grace_s=settings.server.drain_ms / 1000 + STEP_GRACE_S,
                count_death=lambda loop: metrics.loop_deaths.labels(loop).inc(),
            )
        )
        catalog = catalog_from(settings)
        metrics.expect(teams=settings.teams, models=catalog.models, providers=settings.providers)
        _show_retirements(metrics, catalog, clock)
        latencies = Latencies(
            store, clock, limits=_polling_limits(settings), priors=priors_of(catalog)
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
                # A store that is just being restarted must not end the gateway.
                await until_stored(signing.signer),
                settings.server.public_url.rstrip("/"),
                lambda outcome: metrics.callbacks.labels("in", outcome).inc(),
            )
        links = Links(
            signing.signer,
            clock,
            keep_ms=settings.assets.keep_ms,
            public_url=settings.server.public_url,
        )
        find_offer = partial(offer_of, catalog)
        told = ClientCallbacks(links=links, clock=clock, find_offer=find_offer)
        guard = Guard(settings.callbacks.allow)
        reference_guard = Guard(settings.references.allow, schemes=frozenset({"https", "http"}))
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
            settings=_courier_settings(settings),
        )
        fetchers = {
            name: HttpPictureFetcher(
                clients.fetch, assets, converter, _fetch_settings(provider), clock
            )
            for name, provider in settings.providers.items()
        }
        straight = StraightAssets(assets, fetchers)
        engine = Engine(
            Surroundings(
                store=tasks,
                providers=providers,
                fetchers=fetchers,
                straight=straight,
                poller=poller,
                organization=organization,
                outbox=outbox,
                turnstile=turnstile,
                latencies=latencies,
                shelf=shelf,
                replica=replica,
                background=background,
                clock=clock,
                accounting=Accounting(metrics),
                patience=_patience(settings),
                references=StoredReferenceLinks(
                    store,
                    assets,
                    clock,
                    services=_file_services(loaded, clients, clock, metrics),
                    make_link=links.reference_url,
                    random_bytes=randomness.token_bytes,
                    valid_ms=settings.server.deadline_ms + LINK_MARGIN_MS,
                ),
                chance=Chance(random_bytes=randomness.token_bytes, fraction=random.random),
                correct=partial(_correct, books),
                call_back=partial(_call_back, told, deliveries, courier),
                callback_url=None if callbacks is None else callbacks.url,
                logs_prompt_hashes=settings.log.prompt_hashes,
                reached=reached,
                tracer=tracer,
            ),
            wake,
            find_offer,
        )
        waiting = Waiting(
            tasks,
            engine.running,
            clock,
            deadline_s=settings.server.deadline_ms / 1000,
            with_straight=straight.with_straight,
        )
        metrics.follow(metrics.task_age, partial(_oldest_s, engine, clock))
        metrics.follow(metrics.assets_waiting, lambda: float(engine.unstored))
        recovery = Recovery(tasks, engine, replica, shelf, clock)
        for hear in (engine.hear, waiting.hear, recovery.hear):
            wake.listen(hear)
        ledger = RedisLedger(store, clock)
        accounts = RedisAccounts(store)
        teams = AllTeams(settings.teams, accounts)
        alerts = None
        if secrets.alert_webhook.get_secret_value():
            alerts = Alerts(
                RedisAlertMarks(store, replica=replica.id),
                # A connection of its own for each call, as for paid posts: they are rare.
                Webhook(clients.submit, secrets.alert_webhook),
                clock,
                count=lambda outcome: metrics.alerts.labels(outcome).inc(),
            )
        images = ImageService(
            catalog=catalog,
            providers=providers,
            engine=engine,
            waiting=waiting,
            guard=guard,
            wait_s=settings.server.wait_ms / 1000,
            clock=clock,
            random_bytes=randomness.token_bytes,
            quantile=latencies.quantile,
        )
        shown = TaskService(tasks, engine, keeps_prompts=bool(settings.privacy.keep_prompts_ms))
        admin = Admin(accounts, settings.teams, clock, randomness.token_bytes)
        usage = UsageService(ledger=ledger, rollups=books, clock=clock)
        yield Gateway(
            settings=settings,
            clock=clock,
            metrics=metrics,
            tracer=tracer,
            background=background,
            keys=AccountKeys(
                FileKeys(callers_from(settings, secrets.team_keys)),
                settings.teams,
                accounts,
                clock,
            ),
            admin=admin,
            webhooks=Webhooks(admin, team_secrets),
            budgets=Budgets(
                teams=teams,
                ledger=ledger,
                top_ups=RedisTopUps(store),
                random_bytes=randomness.token_bytes,
            ),
            admin_key=secrets.admin_key,
            metrics_token=secrets.metrics_token,
            images=images,
            tasks=shown,
            callbacks=callbacks,
            quotes=QuoteService(images=images, ledger=ledger),
            usage=usage,
            evolink=EvolinkService(tasks=shown, usage=usage, clock=clock, find_offer=find_offer),
            links=links,
            references=References(
                assets,
                RemotePictures(
                    await stack.enter_async_context(
                        build_guarded_client(
                            reference_guard,
                            ca_file=str(settings.network.ca_file or ""),
                            max_redirects=MAX_REDIRECTS,
                        )
                    ),
                    reference_guard,
                    RemoteLimits(
                        max_bytes=MAX_REFERENCE_BYTES,
                        total_timeout_s=settings.references.fetch_timeout_ms / 1000,
                    ),
                ),
                spool_dir=open_spool_folder(settings.references.spool_dir),
                passes_links=partial(_passes_links, settings),
            ),
            assets=straight,
            store=store,
            store_checked=store_checked,
            acknowledgement=acknowledgement,
            embedded=embedded,
            poller=poller,
            outbox=outbox,
            orphans=Orphans(store, organization, outbox, clock),
            turnstile=turnstile,
            latencies=latencies,
            poll_rates=poll_rates,
            shelf=shelf,
            replica=replica,
            wake=wake,
            recovery=recovery,
            engine=engine,
            courier=courier,
            store_tasks=tasks,
            deletion=Deletion(tasks.read, Forgetting(store), straight, flush=shelf.flush),
            sweeper=Sweeper(
                assets, clock, read_keep=partial(_read_keep, teams, settings.assets.keep_ms)
            ),
            snapshot=Snapshot(
                ledger,
                teams,
                metrics,
                tell=_nobody if alerts is None else alerts.see,
                undelivered=Unfetched(store, clock).microusd,
                shared=organization_budgets(settings.organization),
            ),
            upstreams=_upstreams(settings, providers, metrics, clock),
            alerts=alerts,
            retention=_retention(settings, store, books, accounts, replica.id),
        )


def keeping_of(settings: Settings) -> Keeping:
    """Return how long tasks and what joins them is kept."""
    keep_ms = settings.assets.keep_ms
    return Keeping(
        record_ms=keep_ms,
        answer_ms=min(keep_ms, JOINABLE_MS),
        listed_ms=keep_ms + settings.server.abandon_after_ms,
        prompts_ms=settings.privacy.keep_prompts_ms,
    )


def _polling_limits(settings: Settings) -> PollingLimits:
    floor_s = settings.polling.min_interval_ms / 1000
    return PollingLimits(
        floors_s=dict.fromkeys(settings.providers, floor_s), budget=settings.polling.budget
    )


def _patience(settings: Settings) -> Patience:
    return Patience(
        deadline_s=settings.server.deadline_ms / 1000,
        abandon_after_s=settings.server.abandon_after_ms / 1000,
        # What nobody knows the fate of is held for as long as a render may take to be submitted.
        unknown_s=settings.server.deadline_ms / 1000,
    )


def _upstreams(
    settings: Settings, providers: Providers, metrics: Metrics, clock: Clock
) -> Upstreams | None:
    every_s = {
        name: provider.balance_every_ms / 1000
        for name, provider in settings.providers.items()
        if provider.balance_every_ms
    }
    return Upstreams(providers, every_s, metrics, clock) if every_s else None


def _nobody(_: Sequence[Standing]) -> None:
    """Announce nothing: there is no webhook."""


def _retention(
    settings: Settings, store: Store, books: RedisBooks, accounts: RedisAccounts, replica: str
) -> Retention | None:
    if settings.ledger.keep_ms is None:
        return None

    async def teams() -> set[TeamId]:
        return {*map(TeamId, settings.teams), *await accounts.teams()}

    return Retention(store, books, teams, keep_ms=settings.ledger.keep_ms, replica=replica)


def _acknowledgement(settings: RedisSettings) -> Acknowledgement | None:
    """Return who must know of an order before it leaves; within half the time of a call."""
    if not settings.acknowledge_replicas and not settings.acknowledge_on_disk:
        return None
    return Acknowledgement(
        replicas=settings.acknowledge_replicas,
        within_ms=max(settings.timeout_ms // 2, 1),
        on_disk=settings.acknowledge_on_disk,
    )


async def _is_checked(store: Store, acknowledgement: Acknowledgement | None) -> bool:
    """Return False for a store that does not answer yet: a gateway may start before it."""
    try:
        await check_server(store, acknowledgement)
    except StoreUnavailable:
        return False
    return True


async def _open_tracer(stack: AsyncExitStack, loaded: Loaded, instance: str) -> Tracer:
    """Return what traces calls, closed after everything that is traced. Raises ConfigError."""
    traces = loaded.settings.traces
    if not traces.endpoint:
        return NO_TRACER
    try:
        # An extra, which takes its time to import.
        from gateway.telemetry.otel import open_tracer  # noqa: PLC0415
    except ImportError:
        message = "needs OpenTelemetry: pip install 'image-gateway[otel]'"
        raise ConfigError([Problem("traces.endpoint", message)]) from None
    ca_file = loaded.settings.network.ca_file
    headers = loaded.secrets.trace_headers
    tracer = open_tracer(
        traces.endpoint,
        headers={name: value.get_secret_value() for name, value in headers.items()},
        sample_ratio=traces.sample_ratio,
        propagates=traces.propagate,
        ca_file=None if ca_file is None else str(ca_file),
        version=__version__,
        instance=instance,
    )
    stack.push_async_callback(tracer.close)
    return tracer


def _refuse_weak(admin_key: SecretStr) -> None:
    key = admin_key.get_secret_value()
    if key and (reason := weak_admin_key(key)):
        raise ConfigError([Problem("server.admin_key_env", reason)])


@dataclass(frozen=True, slots=True)
class _Clients:
    """The ways out, one for each kind of call."""

    submit: httpx.AsyncClient
    poll: httpx.AsyncClient
    fetch: httpx.AsyncClient


async def _open_clients(stack: AsyncExitStack, network: NetworkSettings) -> _Clients:
    proxy = network.proxy.get_secret_value()
    ca_file = str(network.ca_file or "")
    clients = _Clients(
        submit=build_submit_client(proxy=proxy, ca_file=ca_file),
        poll=build_poll_client(proxy=proxy, ca_file=ca_file),
        fetch=build_fetch_client(proxy=proxy, ca_file=ca_file),
    )
    for client in (clients.submit, clients.poll, clients.fetch):
        await stack.enter_async_context(client)
    return clients


def _providers(loaded: Loaded, clients: _Clients, clock: Clock, metrics: Metrics) -> Providers:
    def count(provider: str, call: str, status: str) -> None:
        metrics.upstream_requests.labels(provider, call, status).inc()

    return {
        name: EvolinkProvider(
            EvolinkSettings(
                name=name,
                base_url=provider.base_url,
                api_key=loaded.secrets.provider_keys[name].get_secret_value(),
                min_poll_interval_s=loaded.settings.polling.min_interval_ms / 1000,
                submit_timeout_s=provider.submit_timeout_ms / 1000,
                poll_timeout_s=provider.poll_timeout_ms / 1000,
                proves_idempotency=provider.idempotency == "proven",
            ),
            submit_client=clients.submit,
            poll_client=clients.poll,
            clock=clock,
            observe=partial(count, name),
        )
        for name, provider in loaded.settings.providers.items()
    }


def _file_services(
    loaded: Loaded, clients: _Clients, clock: Clock, metrics: Metrics
) -> dict[str, FileService]:
    def count(provider: str, status: str) -> None:
        metrics.upstream_requests.labels(provider, "upload", status).inc()

    return {
        name: EvolinkFiles(
            FileServiceSettings(
                files_url=provider.file_service,
                api_key=loaded.secrets.provider_keys[name].get_secret_value(),
                upload_timeout_s=provider.upload_timeout_ms / 1000,
            ),
            # A connection of its own for each: one that is stale would cost the whole file.
            client=clients.submit,
            clock=clock,
            random_bytes=randomness.token_bytes,
            observe=partial(count, name),
        )
        for name, provider in loaded.settings.providers.items()
        if provider.references == "files"
    }


def _passes_links(settings: Settings, model: Model) -> bool:
    """Tell whether everybody who may make this model's edits fetches links by themselves."""
    providers = {offer.provider for offer in model.offers_for(Operation.EDIT)}
    return all(settings.providers[name].image_urls == "pass" for name in providers)


@asynccontextmanager
async def opened_providers(loaded: Loaded) -> AsyncIterator[Providers]:
    """Open the upstreams that the settings name, for a command. Raises ConfigError."""
    loaded.require_secrets()
    async with AsyncExitStack() as stack:
        clients = await _open_clients(stack, loaded.settings.network)
        yield _providers(loaded, clients, SystemClock(), Metrics(CollectorRegistry(), version=""))


async def _read_keep(teams: AllTeams, default_ms: int) -> KeepOf:
    """Return how long each team's pictures are kept; those of teams that are gone by default."""
    keeps_ms = {entry.team.id: entry.team.keep_ms for entry in await teams.read()}
    return lambda team: keeps_ms.get(TeamId(team)) or default_ms


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


def _fetch_settings(provider: ProviderSettings) -> FetchSettings:
    return FetchSettings(
        result_hosts=frozenset(provider.result_hosts),
        # An upstream that is spoken to without TLS (a simulator on this machine) links without it.
        allow_http=provider.base_url.startswith("http://"),
        max_result_bytes=provider.max_result_bytes,
        total_timeout_s=provider.fetch_timeout_ms / 1000,
    )


def _show_assets(metrics: Metrics, assets: ObjectAssetStore) -> None:
    for reason in (FULL, UNAVAILABLE):
        metrics.asset_errors.labels("write", reason)
    metrics.follow(metrics.assets_full, lambda: float(assets.is_full))
    if assets.free_bytes is not None:
        metrics.follow(metrics.assets_free, lambda: float(assets.free_bytes or 0))


def _show_queues(metrics: Metrics, turnstile: Turnstile, settings: Settings) -> None:
    for name in settings.providers:
        metrics.follow(metrics.queue_length.labels(name), partial(turnstile.queue_length, name))


def _show_retirements(metrics: Metrics, catalog: Catalog, clock: Clock) -> None:
    """Show how far away the ends are that the catalogue knows."""
    for model in catalog.models.values():
        for offer in model.offers:
            if offer.retires is not None:
                ends = datetime.combine(offer.retires, time(), UTC)
                gauge = metrics.model_retires.labels(model.name, offer.provider)
                metrics.follow(gauge, partial(_seconds_until, ends.timestamp(), clock))


def _seconds_until(moment_s: float, clock: Clock) -> float:
    return moment_s - clock.now_ms() / 1000


def _oldest_s(engine: Engine, clock: Clock) -> float:
    """Return how long ago the oldest task that runs here was admitted."""
    oldest_ms = min((live.task.created_ms for live in engine.running.values()), default=None)
    return 0.0 if oldest_ms is None else max(clock.now_ms() - oldest_ms, 0) / 1000


def _courier_settings(settings: Settings) -> CourierSettings:
    callbacks = settings.callbacks
    return CourierSettings(
        timeout_s=callbacks.timeout_ms / 1000,
        max_concurrent=callbacks.max_concurrent,
        max_concurrent_per_team=max(1, callbacks.max_concurrent // 4),
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
    told: ClientCallbacks, deliveries: Deliveries, courier: Courier, task: Task
) -> None:
    await deliveries.enqueue(await told.of(task))
    courier.wake(task.team)


async def _last_flush(shelf: Shelf, turnstile: Turnstile, outbox: Outbox) -> None:
    with suppress(StoreUnavailable):
        await shelf.flush()
        await turnstile.flush()
        await outbox.flush_noted()

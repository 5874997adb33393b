"""The one place where concrete classes are named: settings in, a wired gateway out."""

from __future__ import annotations

import random
import secrets as randomness
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial

import httpx
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from gateway import __version__
from gateway.access.admin_key import weak_admin_key
from gateway.access.directory import AccountKeys
from gateway.access.file_keys import FileKeys
from gateway.access.interface import KeyDirectory
from gateway.access.redis_accounts import RedisAccounts
from gateway.assets.ingest import FetchSettings, HttpPictureFetcher
from gateway.assets.interface import AssetStore
from gateway.assets.object_store import ObjectAssetStore
from gateway.assets.sweeper import Sweeper
from gateway.background import Background, SystemClock
from gateway.config.addresses import EMBEDDED
from gateway.config.catalog import catalog_from
from gateway.config.load import Loaded
from gateway.config.problems import ConfigError, Problem
from gateway.config.settings import NetworkSettings, ProviderSettings, Settings
from gateway.config.teams import callers_from, teams_from
from gateway.domain.clock import Clock
from gateway.domain.errors import StoreUnavailable
from gateway.domain.ids import ID_BYTES, make_replica_id
from gateway.ledger.redis_books import RedisBooks
from gateway.ledger.redis_ledger import RedisLedger
from gateway.network.clients import build_fetch_client, build_poll_client, build_submit_client
from gateway.providers.evolink import EvolinkProvider, EvolinkSettings
from gateway.providers.interface import Provider
from gateway.service.admin import Admin
from gateway.service.images import ImageService
from gateway.service.quotes import QuoteService
from gateway.service.snapshot import Snapshot
from gateway.service.usage import UsageService
from gateway.store.check import check_server, check_when_reachable
from gateway.store.client import Store
from gateway.store.embedded import EmbeddedServer
from gateway.tasks.accounting import Accounting
from gateway.tasks.engine import Chance, Engine, EngineSettings
from gateway.tasks.poller import Poller
from gateway.tasks.redis_tasks import RedisTaskStore
from gateway.tasks.shelf import Shelf
from gateway.telemetry.metrics import Metrics

Providers = Mapping[str, Provider]

#: A stop waits this much longer for running steps than for the requests that wait for them.
STEP_GRACE_S = 5.0


@dataclass(frozen=True, slots=True)
class Gateway:
    """Everything the ways in need. Its loops run from `start` on."""

    settings: Settings
    clock: Clock
    metrics: Metrics
    background: Background
    keys: KeyDirectory
    admin: Admin
    admin_key: SecretStr
    images: ImageService
    quotes: QuoteService
    usage: UsageService
    assets: AssetStore
    store: Store
    store_checked: bool
    embedded: EmbeddedServer | None
    poller: Poller
    shelf: Shelf
    snapshot: Snapshot
    sweeper: Sweeper

    def start(self) -> None:
        """Start the background loops."""
        self.background.loop("poller", self.poller.run)
        self.background.loop("shelf", self.shelf.run)
        self.background.loop("snapshot", self.snapshot.run)
        self.background.loop("sweeper", self.sweeper.run)
        if self.embedded is not None:
            self.background.loop("embedded_server", self.embedded.supervise)
        if not self.store_checked:
            self.background.loop("store_check", partial(check_when_reachable, self.store))


@asynccontextmanager
async def build(loaded: Loaded) -> AsyncIterator[Gateway]:
    """Wire a gateway and open what it needs; close it all in reverse.

    Raises ConfigError for secrets that are missing, a weak admin key or a store that would lose
    money, EmbeddedServerError when the store of our own cannot be started, and
    AssetUnavailableError for a picture store that cannot be opened.
    """
    secrets = loaded.require_secrets()
    _refuse_weak(secrets.admin_key)
    settings = loaded.settings
    clock = SystemClock()
    metrics = Metrics(CollectorRegistry(), version=__version__)
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
        store_checked = embedded is not None or await _is_checked(store)
        tasks = RedisTaskStore(
            store,
            clock,
            owner=make_replica_id(randomness.token_bytes(ID_BYTES)),
            keep_ms=settings.assets.keep_ms,
        )
        assets = ObjectAssetStore.open(settings.assets.url)
        clients = await _open_clients(stack, settings.network)
        providers = _providers(loaded, clients, clock, metrics)
        shelf = Shelf(tasks)
        stack.push_async_callback(_last_flush, shelf)
        background = await stack.enter_async_context(
            Background(grace_s=settings.server.drain_ms / 1000 + STEP_GRACE_S)
        )
        poller = Poller(clock, background, max_concurrent=settings.polling.max_concurrent)
        engine = Engine(
            store=tasks,
            providers=providers,
            fetchers={
                name: HttpPictureFetcher(clients.fetch, assets, _fetch_settings(provider))
                for name, provider in settings.providers.items()
            },
            poller=poller,
            shelf=shelf,
            background=background,
            clock=clock,
            accounting=Accounting(metrics),
            settings=EngineSettings(
                deadline_s=settings.server.deadline_ms / 1000,
                abandon_after_s=settings.server.abandon_after_ms / 1000,
            ),
            chance=Chance(random_bytes=randomness.token_bytes, fraction=random.random),
        )
        teams = teams_from(settings)
        ledger = RedisLedger(store, clock)
        accounts = RedisAccounts(store)
        images = ImageService(
            catalog=catalog_from(settings),
            providers=providers,
            engine=engine,
            wait_s=settings.server.wait_ms / 1000,
            random_bytes=randomness.token_bytes,
        )
        yield Gateway(
            settings=settings,
            clock=clock,
            metrics=metrics,
            background=background,
            keys=AccountKeys(
                FileKeys(callers_from(settings, secrets.team_keys)),
                settings.teams,
                accounts,
                clock,
            ),
            admin=Admin(accounts, settings.teams, clock, randomness.token_bytes),
            admin_key=secrets.admin_key,
            images=images,
            quotes=QuoteService(images=images, ledger=ledger),
            usage=UsageService(ledger=ledger, rollups=RedisBooks(store), clock=clock),
            assets=assets,
            store=store,
            store_checked=store_checked,
            embedded=embedded,
            poller=poller,
            shelf=shelf,
            sweeper=Sweeper(assets, clock, keep_ms=settings.assets.keep_ms),
            snapshot=Snapshot(ledger, tuple(teams.values()), metrics),
        )


async def _is_checked(store: Store) -> bool:
    """Return False for a store that does not answer yet: a gateway may start before it."""
    try:
        await check_server(store)
    except StoreUnavailable:
        return False
    return True


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
            ),
            submit_client=clients.submit,
            poll_client=clients.poll,
            clock=clock,
            observe=partial(count, name),
        )
        for name, provider in loaded.settings.providers.items()
    }


def _fetch_settings(provider: ProviderSettings) -> FetchSettings:
    return FetchSettings(
        result_hosts=frozenset(provider.result_hosts),
        # An upstream that is spoken to without TLS (a simulator on this machine) links without it.
        allow_http=provider.base_url.startswith("http://"),
        max_result_bytes=provider.max_result_bytes,
        total_timeout_s=provider.fetch_timeout_ms / 1000,
    )


async def _last_flush(shelf: Shelf) -> None:
    with suppress(StoreUnavailable):
        await shelf.flush()

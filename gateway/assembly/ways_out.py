"""The ways out of the house: HTTP clients, upstreams, their files, and the fetchers of pictures."""

from __future__ import annotations

import secrets as randomness
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

import httpx
from prometheus_client import CollectorRegistry

from gateway.assets.convert import Converter
from gateway.assets.download import FetchSettings
from gateway.assets.ingest import HttpPictureFetcher
from gateway.assets.object_store import ObjectAssetStore
from gateway.assets.remote import MAX_REDIRECTS, RemoteLimits, RemotePictures
from gateway.assets.spool import open_spool_folder
from gateway.background import SystemClock
from gateway.config.load import Loaded
from gateway.config.provider_settings import ProviderSettings
from gateway.config.settings import NetworkSettings, Settings
from gateway.domain.clock import Clock
from gateway.domain.references import MAX_REFERENCE_BYTES
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
from gateway.service.upstreams import Upstreams
from gateway.telemetry.metrics import Metrics

Providers = Mapping[str, Provider]


@dataclass(frozen=True, slots=True)
class Clients:
    """The ways out, one for each kind of call."""

    submit: httpx.AsyncClient
    poll: httpx.AsyncClient
    fetch: httpx.AsyncClient


async def open_clients(stack: AsyncExitStack, network: NetworkSettings) -> Clients:
    """Open the clients; `stack` closes them."""
    proxy = network.proxy.get_secret_value()
    ca_file = str(network.ca_file or "")
    clients = Clients(
        submit=build_submit_client(proxy=proxy, ca_file=ca_file),
        poll=build_poll_client(proxy=proxy, ca_file=ca_file),
        fetch=build_fetch_client(proxy=proxy, ca_file=ca_file),
    )
    for client in (clients.submit, clients.poll, clients.fetch):
        await stack.enter_async_context(client)
    return clients


def providers_of(loaded: Loaded, clients: Clients, clock: Clock, metrics: Metrics) -> Providers:
    """Return the upstreams that the settings name."""

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


def file_services_of(
    loaded: Loaded, clients: Clients, clock: Clock, metrics: Metrics
) -> dict[str, FileService]:
    """Return the services that take files, of the providers whose references are uploaded."""

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


def fetchers_of(
    loaded: Loaded,
    clients: Clients,
    assets: ObjectAssetStore,
    converter: Converter,
    clock: Clock,
) -> dict[str, HttpPictureFetcher]:
    """Return what fetches the pictures of each provider into the store."""
    spool_dir = open_spool_folder(loaded.settings.references.spool_dir)
    return {
        name: HttpPictureFetcher(
            *(clients.fetch, assets, converter, _fetch_settings(provider), clock),
            spool_dir=spool_dir,
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


def upstreams_of(
    settings: Settings, providers: Providers, metrics: Metrics, clock: Clock
) -> Upstreams | None:
    """Return what asks for the balances of accounts, None where none is to be asked."""
    every_s = {
        name: provider.balance_every_ms / 1000
        for name, provider in settings.providers.items()
        if provider.balance_every_ms
    }
    return Upstreams(providers, every_s, metrics, clock) if every_s else None


async def open_remote_pictures(stack: AsyncExitStack, settings: Settings) -> RemotePictures:
    """Open the way to pictures that calls name by a link; `stack` closes it."""
    guard = Guard(settings.references.allow, schemes=frozenset({"https", "http"}))
    client = build_guarded_client(
        guard, ca_file=str(settings.network.ca_file or ""), max_redirects=MAX_REDIRECTS
    )
    return RemotePictures(
        await stack.enter_async_context(client),
        guard,
        RemoteLimits(
            max_bytes=MAX_REFERENCE_BYTES,
            total_timeout_s=settings.references.fetch_timeout_ms / 1000,
        ),
    )


@asynccontextmanager
async def opened_providers(loaded: Loaded) -> AsyncIterator[Providers]:
    """Open the upstreams that the settings name, for a command. Raises ConfigError."""
    loaded.require_secrets()
    async with AsyncExitStack() as stack:
        clients = await open_clients(stack, loaded.settings.network)
        yield providers_of(loaded, clients, SystemClock(), Metrics(CollectorRegistry(), version=""))

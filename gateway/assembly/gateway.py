"""What a wired gateway is: a house that lives as long as the process, and a front.

The house owns the ways to the store, the upstreams and the pictures, the tasks that run and the
loops that see to them. The front is all that is made of the settings for those who call: models
and prices, keys, teams, links. The house looks things up in the front in force each time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from pydantic import SecretStr

from gateway.access.interface import Accounts, KeyDirectory, TeamKeys
from gateway.access.server_signer import ServerSigner
from gateway.access.teams import AllTeams
from gateway.assembly.from_settings import capacities_of, keeping_of, polling_limits_of
from gateway.assembly.gauges import show_retirements
from gateway.assembly.ways_out import Providers
from gateway.assets.interface import AssetStore, KeepOf
from gateway.assets.remote import RemotePictures
from gateway.assets.sweeper import Sweeper
from gateway.background import Background
from gateway.callbacks.courier import Courier
from gateway.callbacks.interface import Callback
from gateway.callbacks.team_secrets import TeamSecrets
from gateway.config.organization import organization_budgets
from gateway.config.settings import Settings
from gateway.domain.catalog import Catalog, Offer
from gateway.domain.clock import Clock
from gateway.domain.ids import TeamId
from gateway.domain.images import KeptReference
from gateway.domain.limits import Budget
from gateway.domain.references import is_reference
from gateway.domain.task import Task
from gateway.ledger.organization import Organization
from gateway.ledger.orphans import Orphans
from gateway.ledger.outbox import Outbox
from gateway.ledger.redis_books import RedisBooks
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.retention import Retention
from gateway.network.guard import Guard
from gateway.providers.interface import FileService
from gateway.service.admin import Admin
from gateway.service.alerts import Alerts
from gateway.service.budgets import Budgets
from gateway.service.callbacks import Callbacks
from gateway.service.client_callbacks import ClientCallbacks
from gateway.service.deletion import Deletion
from gateway.service.evolink import EvolinkService
from gateway.service.images import ImageService
from gateway.service.links import REFERENCE_MS, Links
from gateway.service.offers import offer_of
from gateway.service.operators import Operators
from gateway.service.quotes import QuoteService
from gateway.service.references import References
from gateway.service.snapshot import Snapshot
from gateway.service.tasks import TaskService
from gateway.service.upstreams import Upstreams
from gateway.service.usage import UsageService
from gateway.service.webhooks import Webhooks
from gateway.store.check import check_when_reachable
from gateway.store.client import Store
from gateway.store.connect import Acknowledgement
from gateway.store.embedded import EmbeddedServer
from gateway.tasks.engine import Engine
from gateway.tasks.latencies import Latencies, priors_of
from gateway.tasks.neighbours import Neighbours
from gateway.tasks.poll_rate import PollRates
from gateway.tasks.poller import Poller
from gateway.tasks.price_books import PriceBooks
from gateway.tasks.recovery import Recovery
from gateway.tasks.redis_tasks import RedisTaskStore
from gateway.tasks.replica import Replica
from gateway.tasks.shelf import Shelf
from gateway.tasks.turnstile import Turnstile
from gateway.tasks.waiting import Waiting
from gateway.tasks.wake import Wake
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.traces import Tracer


@dataclass(frozen=True, slots=True)
class Front:
    """Everything that is made of one set of settings; it holds nothing open and starts nothing."""

    settings: Settings
    catalog: Catalog
    keys: KeyDirectory
    teams: AllTeams
    admin: Admin
    webhooks: Webhooks
    budgets: Budgets
    admin_key: SecretStr
    metrics_token: SecretStr
    images: ImageService
    tasks: TaskService
    quotes: QuoteService
    usage: UsageService
    operators: Operators
    evolink: EvolinkService
    links: Links
    references: References
    client_callbacks: ClientCallbacks
    provider_keys: Mapping[str, SecretStr]


class InForce:
    """The front in force, for the house to look things up in; there is one before loops start."""

    front: Front

    def put(self, front: Front) -> None:
        """Put a front in force."""
        self.front = front

    def find_offer(self, task: Task) -> Offer | None:
        """Return the offer that a task is of today; None when the catalogue no longer has it."""
        return offer_of(self.front.catalog, task)

    def organization_budgets(self) -> tuple[Budget, ...]:
        """Return the budgets that all teams share."""
        return organization_budgets(self.front.settings.organization)

    async def read(self) -> tuple[TeamKeys, ...]:
        """Return every team, as `TeamList` says. Raises StoreUnavailable."""
        return await self.front.teams.read()

    async def team_names(self) -> frozenset[TeamId]:
        """Return every team that may have books. Raises StoreUnavailable."""
        return await self.front.teams.names()

    async def reference_url(self, team: TeamId, reference: KeptReference) -> str:
        """Return a link to a reference for an upstream. Raises StoreUnavailable."""
        return await self.front.links.reference_url(team, reference)

    async def callback_of(self, task: Task) -> Callback:
        """Return what the client of a task that is over is told. Raises StoreUnavailable."""
        return await self.front.client_callbacks.of(task)

    async def read_keep(self) -> KeepOf:
        """Return how long each team's pictures are kept; those of teams that are gone by default.

        References are gone with their task, as a rule; here, once nobody can need them any more.
        Raises StoreUnavailable.
        """
        front = self.front
        keeps_ms = {entry.team.id: entry.team.keep_ms for entry in await front.teams.read()}
        default_ms = front.settings.assets.keep_ms
        references_ms = front.settings.server.deadline_ms + REFERENCE_MS

        def keep_ms(key: str) -> int:
            if is_reference(key):
                return references_ms
            return keeps_ms.get(TeamId(key.partition("/")[0])) or default_ms

        return keep_ms


@dataclass(frozen=True, slots=True)
class Gateway:
    """The house, with the front in force. Its loops run from `start` on."""

    in_force: InForce
    organization: Organization
    clock: Clock
    metrics: Metrics
    tracer: Tracer
    background: Background
    store: Store
    store_checked: bool
    acknowledgement: Acknowledgement | None
    embedded: EmbeddedServer | None
    accounts: Accounts
    ledger: RedisLedger
    books: RedisBooks
    providers: Providers
    file_services: Mapping[str, FileService]
    assets: AssetStore
    remote_pictures: RemotePictures
    guard: Guard
    signing: ServerSigner
    team_secrets: TeamSecrets
    callbacks: Callbacks | None
    poller: Poller
    outbox: Outbox
    orphans: Orphans
    turnstile: Turnstile
    latencies: Latencies
    poll_rates: PollRates
    shelf: Shelf
    replica: Replica
    neighbours: Neighbours
    wake: Wake
    recovery: Recovery
    engine: Engine
    waiting: Waiting
    courier: Courier
    store_tasks: RedisTaskStore
    price_books: PriceBooks
    snapshot: Snapshot
    upstreams: Upstreams | None
    alerts: Alerts | None
    retention: Retention | None
    deletion: Deletion
    sweeper: Sweeper

    @property
    def front(self) -> Front:
        """What new requests meet."""
        return self.in_force.front

    def take(self, front: Front) -> None:
        """Put a front in force, and what its settings say to the house; nothing of it can fail.

        What is under way keeps what it began with: prices, windows of budgets.
        """
        settings = front.settings
        before = getattr(self.in_force, "front", None)
        self.organization.limit(organization_budgets(settings.organization))
        if self.organization.has_budgets:
            self.store_tasks.tell_organization()
        self.store_tasks.keep(keeping_of(settings))
        self.latencies.believe(priors_of(front.catalog), polling_limits_of(settings))
        self.turnstile.resize(capacities_of(settings))
        for name, key in front.provider_keys.items():
            for account in (self.providers.get(name), self.file_services.get(name)):
                if account is not None:
                    account.use_key(key.get_secret_value())
        self.metrics.expect(
            teams=settings.teams, models=front.catalog.models, providers=settings.providers
        )
        show_retirements(
            self.metrics,
            front.catalog,
            self.clock,
            before=None if before is None else before.catalog,
        )
        self.price_books.know(front.catalog)
        self.in_force.put(front)

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
        self.background.loop("neighbours", self.neighbours.run)
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

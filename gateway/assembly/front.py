"""Makes a front: all that is made of one set of settings for those who call."""

from __future__ import annotations

import secrets as randomness
from functools import partial

from pydantic import SecretStr

from gateway.access.admin_key import weak_admin_key
from gateway.access.directory import AccountKeys
from gateway.access.file_keys import FileKeys
from gateway.access.teams import AllTeams
from gateway.assembly.from_settings import passes_links
from gateway.assembly.gateway import Front, Gateway
from gateway.assets.spool import open_spool_folder
from gateway.config.catalog import catalog_from
from gateway.config.load import Loaded
from gateway.config.problems import ConfigError, Problem
from gateway.config.teams import callers_from
from gateway.ledger.redis_top_ups import RedisTopUps
from gateway.service.admin import Admin
from gateway.service.budgets import Budgets
from gateway.service.client_callbacks import ClientCallbacks
from gateway.service.evolink import EvolinkService
from gateway.service.images import ImageService
from gateway.service.links import Links
from gateway.service.operators import Operators
from gateway.service.quotes import QuoteService
from gateway.service.references import References
from gateway.service.tasks import TaskService
from gateway.service.usage import UsageService
from gateway.service.webhooks import Webhooks


def make_front(gateway: Gateway, loaded: Loaded) -> Front:
    """Return the front that these settings make of a house; nothing of it is in force yet.

    Raises ConfigError for secrets that are missing and for a weak admin key.
    """
    secrets = loaded.require_secrets()
    refuse_weak(secrets.admin_key)
    settings, clock = loaded.settings, gateway.clock
    catalog = catalog_from(settings)
    teams = AllTeams(settings.teams, gateway.accounts)
    links = Links(
        gateway.signing.signer,
        clock,
        keep_ms=settings.assets.keep_ms,
        public_url=settings.server.public_url,
    )
    find_offer = gateway.in_force.find_offer
    images = ImageService(
        catalog=catalog,
        providers=gateway.providers,
        engine=gateway.engine,
        waiting=gateway.waiting,
        guard=gateway.guard,
        wait_s=settings.server.wait_ms / 1000,
        clock=clock,
        random_bytes=randomness.token_bytes,
        quantile=gateway.latencies.quantile,
    )
    tasks = TaskService(
        gateway.store_tasks, gateway.engine, keeps_prompts=bool(settings.privacy.keep_prompts_ms)
    )
    admin = Admin(gateway.accounts, settings.teams, clock, randomness.token_bytes)
    usage = UsageService(ledger=gateway.ledger, rollups=gateway.books, clock=clock)
    return Front(
        settings=settings,
        catalog=catalog,
        keys=AccountKeys(
            FileKeys(callers_from(settings, secrets.team_keys)),
            settings.teams,
            gateway.accounts,
            clock,
        ),
        teams=teams,
        admin=admin,
        webhooks=Webhooks(admin, gateway.team_secrets),
        budgets=Budgets(
            teams=teams,
            ledger=gateway.ledger,
            top_ups=RedisTopUps(gateway.store),
            random_bytes=randomness.token_bytes,
        ),
        admin_key=secrets.admin_key,
        metrics_token=secrets.metrics_token,
        images=images,
        tasks=tasks,
        quotes=QuoteService(images=images, ledger=gateway.ledger),
        usage=usage,
        operators=Operators(teams=teams, rollups=gateway.books, tasks=tasks, clock=clock),
        evolink=EvolinkService(tasks=tasks, usage=usage, clock=clock, find_offer=find_offer),
        links=links,
        references=References(
            gateway.assets,
            gateway.remote_pictures,
            links,
            spool_dir=open_spool_folder(settings.references.spool_dir),
            passes_links=partial(passes_links, settings),
            random_bytes=randomness.token_bytes,
            start=gateway.background.step,
        ),
        client_callbacks=ClientCallbacks(links=links, clock=clock, find_offer=find_offer),
        provider_keys=secrets.provider_keys,
    )


def refuse_weak(admin_key: SecretStr) -> None:
    """Raise ConfigError for a key that must not open the admin API; none at all is none."""
    key = admin_key.get_secret_value()
    if key and (reason := weak_admin_key(key)):
        raise ConfigError([Problem("server.admin_key_env", reason)])

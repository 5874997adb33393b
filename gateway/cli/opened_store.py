"""The store for the length of one command: the one that runs, or one that is run for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from gateway.config.addresses import EMBEDDED
from gateway.config.load import Loaded
from gateway.config.problems import ConfigError
from gateway.store.client import Store
from gateway.store.data_dir import DataDirInUseError
from gateway.store.embedded import EmbeddedServer
from gateway.store.notes import embedded_url

_URL_ENV = "redis.url_env"


@asynccontextmanager
async def opened_store(loaded: Loaded) -> AsyncIterator[Store]:
    """Open the store that the settings name.

    An embedded server is started for the length of the command; when a gateway runs on its
    directory, that gateway's server is spoken to through its socket. Raises EmbeddedServerError
    when neither is possible, and ConfigError when the address is in a variable that is not set: a
    key that was revoked in a store of this machine's own would open everything still.
    """
    if unknown := [problem for problem in loaded.missing_secrets if problem.path == _URL_ENV]:
        raise ConfigError(unknown)
    settings = loaded.settings.redis
    url = loaded.secrets.redis_url.get_secret_value()
    async with AsyncExitStack() as stack:
        if url == EMBEDDED:
            server = EmbeddedServer(settings.data_dir)
            try:
                stack.push_async_callback(server.stop)
                await server.start()
                url = server.url
            except DataDirInUseError:
                url = embedded_url(settings.data_dir)
                if not url:
                    raise
        yield await stack.enter_async_context(Store(url, timeout_ms=settings.timeout_ms))

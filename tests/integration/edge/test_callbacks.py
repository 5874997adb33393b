from __future__ import annotations

import httpx
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from gateway.domain.errors import GatewayError
from gateway.domain.tokens import Signer
from gateway.edge.callbacks import CallbackRoutes
from gateway.edge.errors import on_gateway_error
from gateway.service.callbacks import Callbacks
from gateway.store.client import Store
from gateway.tasks.wake import Wake
from tests.support.factories import a_record, a_task
from tests.support.journal import a_journal


async def a_signer() -> Signer:
    """Sign with the server's secret."""
    return Signer((b"s",))


async def posted(routes: CallbackRoutes, token: str) -> httpx.Response:
    """Post a callback to the routes by themselves."""
    path = "/v1/callbacks/{provider}/{token}"
    app = Starlette(
        routes=[Route(path, routes.receive, methods=["POST"])],
        exception_handlers={GatewayError: on_gateway_error},
    )

    async def with_record(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope | {"state": {"record": a_record()}}, receive, send)

    transport = httpx.ASGITransport(app=with_record)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        return await client.post(f"/v1/callbacks/evolink/{token}", content=b"{}")


async def test_genuine_callbacks_are_taken_and_told_nothing(store: Store) -> None:
    """Also one that comes too late: the answer is the same, and empty."""
    wake = Wake(store, id="replica_1")
    callbacks = Callbacks(a_journal(store), wake, a_signer, "https://g", lambda _: None)
    token = (await callbacks.url(a_task(), 0)).rpartition("/")[2]
    answer = await posted(CallbackRoutes(callbacks), token)

    assert (200, b"") == (answer.status_code, answer.content)
    assert 404 == (await posted(CallbackRoutes(callbacks), "abc.def")).status_code


async def test_without_a_public_url_there_is_nothing_to_call() -> None:
    """No upstream was ever told where to call back."""
    assert 404 == (await posted(CallbackRoutes(None), "abc.def")).status_code

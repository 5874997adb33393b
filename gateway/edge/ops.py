"""`/healthz`, `/readyz` and `/metrics`, for whoever runs the gateway."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Mapping

import orjson
from prometheus_client.exposition import choose_encoder
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from gateway.domain.errors import NotAuthenticated
from gateway.telemetry.metrics import Metrics

#: A check that takes longer than this has failed.
CHECK_WITHIN_S = 1.0

#: Returns when the thing is fine and raises when it is not; the exception's text is shown.
Check = Callable[[], Awaitable[None]]


class OpsRoutes:
    """Handlers for probes and scrapes."""

    def __init__(
        self, *, checks: Mapping[str, Check], metrics: Metrics, metrics_token: str = ""
    ) -> None:
        self._checks = checks
        self._metrics = metrics
        self._metrics_token = metrics_token

    async def healthz(self, _request: Request) -> Response:
        """Answer as long as the process serves at all."""
        return PlainTextResponse("ok\n")

    async def readyz(self, _request: Request) -> Response:
        """Answer 200 when calls can be served, else 503; both say what was checked."""
        names = list(self._checks)
        states = await asyncio.gather(*(self._state(self._checks[name]) for name in names))
        ready = all(state == "ok" for state in states)
        body = {"ready": ready, "checks": dict(zip(names, states, strict=True))}
        return Response(
            orjson.dumps(body, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE),
            status_code=200 if ready else 503,
            media_type="application/json",
        )

    async def metrics(self, request: Request) -> Response:
        """Return all metrics in the format the scraper asks for; 401 without the token, if any."""
        if self._metrics_token:
            scheme, _, token = request.headers.get("authorization", "").partition(" ")
            expected = self._metrics_token.encode()
            is_right = hmac.compare_digest(token.strip().encode(), expected)
            if scheme.lower() != "bearer" or not is_right:
                raise NotAuthenticated(
                    "This needs the token of metrics (Authorization: Bearer TOKEN).", code=None
                )
        try:
            encode, content_type = choose_encoder(request.headers.get("accept", ""))
        except (TypeError, ValueError):
            # The library compares versions that it could not read.
            encode, content_type = choose_encoder("")
        self._metrics.refresh()
        # Thousands of samples, of several workers even, take long enough to be felt by requests.
        text = await asyncio.to_thread(encode, self._metrics.registry)
        return Response(text, headers={"content-type": content_type})

    async def _state(self, check: Check) -> str:
        try:
            async with asyncio.timeout(CHECK_WITHIN_S):
                await check()
        except TimeoutError:
            return "timeout"
        except Exception as error:  # noqa: BLE001 - whatever it raises is the finding
            return str(error) or type(error).__name__
        return "ok"

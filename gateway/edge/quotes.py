"""`POST /v1/images/quotes`: what a generation would cost. Spends nothing."""

from __future__ import annotations

import orjson
from starlette.requests import Request
from starlette.responses import Response

from gateway.access.interface import KeyDirectory
from gateway.edge.auth import authenticate
from gateway.edge.parse import FieldRules, parse_generation
from gateway.edge.record import record_of
from gateway.ledger.holds import tightest
from gateway.service.quotes import QuoteService


class QuoteRoutes:
    """The handler that prices calls."""

    def __init__(
        self, *, keys: KeyDirectory, rules: FieldRules, quotes: QuoteService, help_url: str
    ) -> None:
        self._keys = keys
        self._rules = rules
        self._quotes = quotes
        self._help_url = help_url

    async def quotes(self, request: Request) -> Response:
        """Take the body of a generation, refuse what that would refuse, and answer its price."""
        record = record_of(request)
        caller = await authenticate(request, self._keys, self._help_url)
        asked = parse_generation(await request.body(), self._rules)
        record.model = asked.model
        quoted = await self._quotes.quote(caller, asked)
        budget = tightest(quoted.budgets or ())
        record.remaining_microusd = None if budget is None else budget.remaining_microusd
        return Response(orjson.dumps(quoted.described()), media_type="application/json")

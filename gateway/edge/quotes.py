"""`POST /v1/images/quotes`: what a generation or an edit would cost. Spends nothing."""

from __future__ import annotations

import orjson
from starlette.requests import Request
from starlette.responses import Response

from gateway.access.interface import KeyDirectory
from gateway.assets.interface import AssetUnavailableError
from gateway.domain.errors import StorageUnavailable
from gateway.edge.auth import authenticate
from gateway.edge.edits import EditReader
from gateway.edge.record import record_of
from gateway.ledger.holds import tightest
from gateway.service.quotes import QuoteService
from gateway.service.references import References


class QuoteRoutes:
    """The handler that prices calls."""

    def __init__(
        self,
        *,
        keys: KeyDirectory,
        edits: EditReader,
        references: References,
        quotes: QuoteService,
        help_url: str,
    ) -> None:
        self._keys = keys
        self._edits = edits
        self._references = references
        self._quotes = quotes
        self._help_url = help_url

    async def quotes(self, request: Request) -> Response:
        """Take the body of a generation or an edit and answer its price.

        What they would refuse is refused; what an edit links to is not looked at.
        """
        record = record_of(request)
        caller = await authenticate(request, self._keys, self._help_url)
        try:
            with self._references.spool() as spool:
                asked = await self._edits.read_to_price(request, spool)
        except AssetUnavailableError as error:
            raise StorageUnavailable from error
        record.model = asked.model
        quoted = await self._quotes.quote(caller, asked)
        budget = tightest(quoted.budgets or ())
        record.remaining_microusd = None if budget is None else budget.remaining_microusd
        return Response(orjson.dumps(quoted.described()), media_type="application/json")

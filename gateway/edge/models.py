"""`GET /v1/models` and `GET /v1/models/{id}`."""

from __future__ import annotations

import orjson
from starlette.requests import Request
from starlette.responses import Response

from gateway.access.interface import KeyDirectory
from gateway.domain.catalog import Model
from gateway.domain.errors import NotFound
from gateway.edge.auth import authenticate
from gateway.service.images import ImageService


class ModelRoutes:
    """Handlers that tell a team which models it may use."""

    def __init__(self, *, keys: KeyDirectory, images: ImageService, help_url: str) -> None:
        self._keys = keys
        self._images = images
        self._help_url = help_url

    async def list_models(self, request: Request) -> Response:
        """Return the models this team may use, in OpenAI's list shape."""
        caller = await authenticate(request, self._keys, self._help_url)
        models = [_fields(model) for model in self._images.models_for(caller.team)]
        return _json({"object": "list", "data": models})

    async def show_model(self, request: Request) -> Response:
        """Return one model; 404 when there is none of that name for this team."""
        caller = await authenticate(request, self._keys, self._help_url)
        name = request.path_params["model"]
        model = self._images.model_for(caller.team, name)
        if model is None or not model.offers:
            raise NotFound(
                f"The model '{name}' does not exist", param="model", code="model_not_found"
            )
        return _json(_fields(model) | {"id": name})


def _fields(model: Model) -> dict[str, object]:
    """Return OpenAI's model object (protocols/openai_images.md §6)."""
    end = model.shutdown_date
    return {
        "id": model.name,
        "object": "model",
        "created": model.created_s,
        "owned_by": model.owned_by,
        "shutdown_date": None if end is None else end.isoformat(),
    }


def _json(value: object) -> Response:
    return Response(orjson.dumps(value), media_type="application/json")

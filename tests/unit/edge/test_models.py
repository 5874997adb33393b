import hashlib
from datetime import date

import orjson
import pytest
from starlette.requests import Request

from gateway.access.file_keys import FileKeys
from gateway.domain.errors import NotAuthenticated, NotFound
from gateway.edge.models import ModelRoutes
from tests.support.factories import KEY, a_caller, a_catalog_service, a_model, a_request, an_offer

NAMES = ("gpt-image-2", "gpt-image-1.5", "openai/gpt-image-2", "z-image-turbo")


def _routes() -> ModelRoutes:
    offers = (an_offer(retires=date(2026, 12, 1)),)
    gone = a_model("gpt-image-0", offers=(an_offer(retires=date(2025, 1, 1)),))
    images = a_catalog_service(*(a_model(name, offers=offers) for name in NAMES), gone)
    keys = FileKeys({hashlib.sha256(KEY.encode()).digest(): a_caller()})
    return ModelRoutes(keys=keys, images=images, help_url="https://help.example")


def _asking(model: str | None = None) -> Request:
    request = a_request(authorization=f"Bearer {KEY}")
    request.scope["path_params"] = {"model": model}
    return request


def _fields(name: str) -> dict[str, object]:
    return {
        "id": name,
        "object": "model",
        "created": 1_765_843_200,
        "owned_by": "system",
        "shutdown_date": "2026-12-01",
    }


async def test_list() -> None:
    """A team sees the models it may use, by name, in OpenAI's shape."""
    response = await _routes().list_models(_asking())

    assert response.headers["content-type"] == "application/json"
    assert orjson.loads(response.body) == {
        "object": "list",
        "data": [_fields("gpt-image-1.5"), _fields("gpt-image-2")],
    }


async def test_show() -> None:
    """One model is shown as it is in the list."""
    response = await _routes().show_model(_asking("gpt-image-2"))

    assert _fields("gpt-image-2") == orjson.loads(response.body)


@pytest.mark.parametrize(
    "name", ["nope", "gpt-image-0", "z-image-turbo", "openai/gpt-image-2", "gpt-image-*"]
)
async def test_no_such_model(name: str) -> None:
    """One that does not exist, one that is gone, and one of other teams look the same."""
    with pytest.raises(NotFound) as refusal:
        await _routes().show_model(_asking(name))

    error = refusal.value
    assert (f"The model '{name}' does not exist", "model", "model_not_found") == (
        *(error.message, error.param),
        error.code,
    )


async def test_both_need_a_key() -> None:
    """Nobody is told about models without a key, and the text says where to find one."""
    with pytest.raises(NotAuthenticated, match=r"https://help\.example"):
        await _routes().list_models(a_request())
    with pytest.raises(NotAuthenticated, match=r"https://help\.example"):
        await _routes().show_model(a_request())

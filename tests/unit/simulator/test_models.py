from typing import Any

import pytest

from gateway.simulator.models import MODELS
from gateway.simulator.orders import read_order
from gateway.simulator.script import Leaning

LINK = "https://files.example/a.png"
LEANINGS = {"newest": frozenset[Leaning](), "other": frozenset({Leaning.OTHER})}


def a_body(name: str, **fields: Any) -> dict[str, Any]:
    """Return a request for a model, with a reference where one is needed."""
    rule = MODELS[name].references
    needs_one = rule is not None and rule.required
    return {"model": name} | ({"image_urls": [LINK]} if needs_one else {}) | fields


@pytest.mark.parametrize("name", list(MODELS))
@pytest.mark.parametrize("leanings", LEANINGS.values(), ids=LEANINGS)
def test_every_default_is_acceptable(name: str, leanings: frozenset[Leaning]) -> None:
    """A request with a model and a prompt only is valid and costs something, by both rules."""
    order = read_order(a_body(name), "a fox", leanings=leanings)

    assert order.price_of(1) > 0
    assert (order.pictures, order.model.name) == (1, name)

"""Answers as they are made, against what the document says of them."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from gateway.domain.errors import ModerationBlocked
from gateway.domain.images import ImageRequest, TokenUsage
from gateway.edge.errors import envelope
from gateway.edge.models import _fields as model_fields
from gateway.edge.openapi import errors
from gateway.edge.openapi.schemas import SCHEMAS
from gateway.edge.render import answer_fields, completed_fields
from gateway.edge.usage import spend_fields
from gateway.ledger.quotas import QuotaState
from gateway.ledger.rollups import Spend
from gateway.service.amounts import amount, budget_fields, quota_fields
from tests.support.factories import a_budget_state, a_model, an_offer, an_outcome


def _faults(name: str, answer: object) -> list[str]:
    schemas = SCHEMAS | {"Error": errors.envelope()}
    schema: Any = {"$ref": f"#/components/schemas/{name}", "components": {"schemas": schemas}}
    validator = Draft202012Validator(schema)
    return [error.message for error in validator.iter_errors(json.loads(json.dumps(answer)))]


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("Amount", amount(-5)),
        ("Budget", budget_fields(a_budget_state())),
        ("Budget", budget_fields(replace(a_budget_state(), resets_at_ms=None))),
        ("Model", model_fields(a_model())),
        ("Model", model_fields(a_model(offers=(an_offer(retires=date(2026, 12, 1)),)))),
        ("Quota", quota_fields(QuotaState("images_per_day", 5, 2, 1_000))),
        ("Quota", quota_fields(QuotaState("in_flight_images", 5, 7))),
        ("Readiness", {"ready": True, "checks": {"store": "ok"}}),
    ],
)
def test_answers_are_as_described(name: str, answer: object) -> None:
    """Every field is there, and none that is not described."""
    assert [] == _faults(name, answer)


def test_an_operators_budget_is_a_budget_and_whose_it_is() -> None:
    """In the list of them, and after a top-up."""
    whose = {"team": "design", "owner": ""} | budget_fields(a_budget_state())
    paid = {"object": "admin.top_up", "id": "1", "entry": "1-0", "budget": whose}

    assert [] == _faults("AdminBudget", {"object": "admin.budget"} | whose)
    assert [] == _faults("TopUp", paid)


def test_a_field_too_many_is_noticed() -> None:
    """So that a field that is new in an answer must be described."""
    assert _faults("Amount", amount(1) | {"eur": "1"})


def test_sums_are_as_described() -> None:
    """The sums of a group, inside of a team's usage."""
    spend = spend_fields(Spend(1, 2, 0, 0, {"image_output": 2}, {"image_output": 5}))
    days = {"object": "usage", "team": "t", "key": "k", "since": "2026-11-01"}
    usage = days | {"until": "2026-11-02", "budgets": [], "quotas": [], "total": spend}
    groups = {f"by_{name}": [{name: "2026-11-01"} | spend] for name in ("day", "model", "key")}

    assert [] == _faults("Usage", usage | groups)


async def test_answers_and_streams_are_as_described() -> None:
    """With pictures or links, whole or as events, with an error at the end."""
    outcome = an_outcome(usage=TokenUsage(text_input=1, image_output=2))
    request = ImageRequest(model="m", prompt="p", safety_identifier="u")
    fields = completed_fields(outcome.task, outcome.delivered[0], request)

    for picture in ({"b64_json": "YWJj"}, {"url": "http://x/v1/assets/a.png"}):
        assert [] == _faults("Images", answer_fields(outcome, request, [picture]))
    assert [] == _faults("StreamEvent", {"type": "image_generation.completed", **fields})
    assert [] == _faults("StreamEvent", {"type": "error", "error": envelope(ModerationBlocked())})
    assert _faults("StreamEvent", {"type": "error", "error": {"message": "m"}})

from __future__ import annotations

from typing import Any

import pytest

from gateway.config.catalog import packaged
from gateway.config.rules import broken_rules

DIGEST = "ab" * 32


def _told(document: dict[str, Any]) -> dict[str, str]:
    return {found.path: found.message for found in broken_rules(document, packaged())}


@pytest.mark.parametrize(
    ("document", "path", "message"),
    [
        (
            {"redis": {"url": "redis://host", "url_env": "REDIS_URL"}},
            "redis",
            "expected url or url_env, not both",
        ),
        (
            {"redis": {"url": "embedded", "acknowledge_replicas": 1}},
            "redis.acknowledge_replicas",
            "the embedded server has no replicas",
        ),
        (
            {"providers": {"evolink": {}}},
            "providers.evolink",
            "expected exactly one of api_key_env and api_key_file, got 0",
        ),
        (
            {"providers": {"evolink": {"api_key_env": "A", "api_key_file": "b"}}},
            "providers.evolink",
            "expected exactly one of api_key_env and api_key_file, got 2",
        ),
        (
            {"server": {"default_model": "gpt-image-2"}, "models": {"gpt-image-1": {}}},
            "server.default_model",
            "no such model is offered here; expected gpt-image-1",
        ),
        (
            {"server": {"default_model": "gpt-image-2"}},
            "server.default_model",
            "no such model is offered here; expected a model of this file",
        ),
        (
            {"models": {"gpt-imgae-1.5": {}}},
            'models."gpt-imgae-1.5"',
            "no such model in the catalogue; did you mean gpt-image-1.5?",
        ),
        (
            {
                "providers": {"evolink": {"api_key_env": "A"}},
                "models": {"gpt-image-1.5": {"routes": ["evolinc"]}},
            },
            'models."gpt-image-1.5".routes[0]',
            "no such provider; did you mean evolink?",
        ),
        (
            {"models": {"gpt-image-1.5": {"routes": ["evolink"]}}},
            'models."gpt-image-1.5".routes[0]',
            "no such provider; there are none",
        ),
        (
            {
                "providers": {"evolink": {"api_key_env": "A"}},
                "models": {"gpt-image-1.5": {"routes": ["evolink", "evolink"]}},
            },
            'models."gpt-image-1.5".routes[1]',
            "this provider is already in the list",
        ),
        (
            {"teams": {"a": {"budgets": [{"per": "day"}, {"per": "month"}, {"per": "day"}]}}},
            "teams.a.budgets[2].name",
            "another budget of this team is called so; expected its own name",
        ),
        (
            {"teams": {"a": {"budgets": [{"per": "day", "name": "month"}, {"per": "month"}]}}},
            "teams.a.budgets[1].name",
            "another budget of this team is called so; expected its own name",
        ),
        (
            {"organization": {"budgets": [{"per": "day"}, {"per": "day"}]}},
            "organization.budgets[1].name",
            "another budget of the organization is called so; expected its own name",
        ),
        (
            {"teams": {"a": {"defaults": {"size": "1x1"}}}},
            "teams.a.defaults.size",
            "expected 1024x1024, 1024x1536 or 1536x1024",
        ),
        (
            {"teams": {"a": {"defaults": {"quality": "auto"}}}},
            "teams.a.defaults.quality",
            "expected low, medium, high, xhigh or max",
        ),
        (
            {"teams": {"a": {"keys": [{"name": "ci"}]}}},
            "teams.a.keys[0]",
            "expected exactly one of sha256, env and file, got 0",
        ),
        (
            {"assets": {"url": "gs://pictures", "endpoint": "http://127.0.0.1:9000"}},
            "assets.endpoint",
            "means nothing for this url; expected one of s3:// or az://",
        ),
        (
            {"assets": {"secret_key_env": "S3_KEY"}},
            "assets.secret_key_env",
            "means nothing for this url; expected one of s3://, gs:// or az://",
        ),
        (
            {"teams": {"a": {"keys": [{"sha256": DIGEST, "env": "", "file": "x"}]}}},
            "teams.a.keys[0]",
            "expected exactly one of sha256, env and file, got 2",
        ),
        (
            {"teams": {"a": {"keys": [{"name": "x", "env": "A"}, {"name": "x", "env": "B"}]}}},
            "teams.a.keys[1].name",
            "another key of this team is called so; expected its own name",
        ),
        (
            {
                "teams": {
                    "a": {"keys": [{"sha256": DIGEST}]},
                    "b": {"keys": [{"sha256": DIGEST.upper()}]},
                }
            },
            "teams.b.keys[0].sha256",
            "the same key as teams.a.keys[0]",
        ),
    ],
)
def test_a_broken_rule_is_told_where_it_is_broken(
    document: dict[str, Any], path: str, message: str
) -> None:
    """Every rule has its place and its sentence."""
    assert {path: message} == _told(document)


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"redis": {"url": "redis://host", "url_env": ""}},
        {"providers": {"evolink": {"api_key_env": "", "api_key_file": "x"}}},
        {
            "providers": {"one": {"api_key_env": "A"}, "two": {"api_key_env": "A"}},
            "models": {"gpt-image-1.5": {"routes": ["two", "one"]}},
        },
        {"teams": {"a": {"budgets": [{"per": "day"}, {"per": "day", "name": "night"}]}}},
        {"teams": {"a": {"budgets": [{"per": "day"}]}, "b": {"budgets": [{"per": "day"}]}}},
        {"teams": {"a": {"defaults": {"size": "1536x1024", "quality": "high"}}}},
        {"teams": {"a": {"defaults": {"size": "", "quality": ""}}}},
        {
            "teams": {
                "a": {"keys": [{"name": "ci", "env": "A"}]},
                "b": {"keys": [{"name": "ci", "env": "B"}]},
            }
        },
    ],
)
def test_what_keeps_the_rules_is_left_alone(document: dict[str, Any]) -> None:
    """Names are unique within their team only, and empty text is nothing."""
    assert _told(document) == {}


@pytest.mark.parametrize(
    "document",
    [
        {"redis": 1, "providers": 1, "models": 1, "organization": 1, "teams": 1},
        {"organization": {"budgets": 1}},
        {"providers": {"p": 1}, "models": {"m": 1}, "teams": {"t": 1}},
        {"models": {"gpt-image-1.5": {"routes": 1}}},
        {"models": {"gpt-image-1.5": {"routes": [1, {}]}}},
        {"teams": {"t": {"budgets": 1, "keys": 1, "defaults": 1}}},
        {"teams": {"t": {"budgets": [1, {"name": []}, {"per": {}}], "keys": [1]}}},
        {"teams": {"t": {"keys": [{"sha256": [], "name": {}}, {"env": {}, "name": 1}]}}},
    ],
)
def test_wrong_shapes_are_left_to_their_types(document: dict[str, Any]) -> None:
    """Whatever TOML can say is passed over without a word and without falling over."""
    assert _told(document) == {}

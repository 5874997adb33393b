from __future__ import annotations

import warnings

from opentelemetry.semconv.attributes import (
    error_attributes,
    http_attributes,
    network_attributes,
    server_attributes,
    url_attributes,
)

from gateway.telemetry import conventions

with warnings.catch_warnings():
    # They have moved to a repository of their own, which has no package yet.
    warnings.simplefilter("ignore", DeprecationWarning)
    from opentelemetry.semconv._incubating.attributes import gen_ai_attributes

PUBLISHED = (
    error_attributes,
    http_attributes,
    network_attributes,
    server_attributes,
    url_attributes,
    gen_ai_attributes,
)


def test_names_are_those_of_the_conventions() -> None:
    """Each constant is called what OpenTelemetry's own package calls it, or begins with ours."""
    ours = {
        name: value
        for name, value in vars(conventions).items()
        if name.isupper() and isinstance(value, str) and "." in value
    }
    theirs = {name: value for module in PUBLISHED for name, value in vars(module).items()}
    named = {name: value for name, value in ours.items() if not value.startswith("gateway.")}

    assert 15 < len(named) < len(ours)
    assert {name: theirs.get(name) for name in named} == named


def test_methods_and_operations_are_known_ones() -> None:
    """Values of names that have a list of them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        operation = gen_ai_attributes.GenAiOperationNameValues.GENERATE_CONTENT.value
        output = gen_ai_attributes.GenAiOutputTypeValues.IMAGE.value
    methods = {method.value for method in http_attributes.HttpRequestMethodValues}

    assert (operation, output) == (conventions.GENERATE_CONTENT, conventions.IMAGE)
    assert conventions.HTTP_METHODS | {conventions.OTHER_METHOD} <= methods

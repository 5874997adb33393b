"""Probes, scrapes, and the document itself."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.domain.errors import InternalError, NotAuthenticated, NotFound, PictureExpired
from gateway.domain.images import PictureFormat
from gateway.edge.openapi.parts import (
    ANYBODY,
    JSON,
    TEXT,
    Answer,
    Operation,
    named,
    ok,
    ref,
)

#: What scrapers ask for by `Accept`.
_EXPOSITIONS = ("text/plain", "application/openmetrics-text")

#: A picture, in whichever format it is.
_PICTURE = {
    picture_format.media_type: {"type": "string", "contentMediaType": picture_format.media_type}
    for picture_format in PictureFormat
}

OPERATIONS: Mapping[str, Operation] = {
    "healthz": Operation(
        summary="Tell that the process serves",
        tag="operations",
        caller=ANYBODY,
        answers={200: Answer("It does.", {"text/plain": TEXT})},
        errors=(InternalError,),
    ),
    "readyz": Operation(
        summary="Tell whether calls can be served",
        tag="operations",
        caller=ANYBODY,
        answers={
            200: ok(ref("Readiness"), "They can."),
            503: ok(ref("Readiness"), "They cannot: what is not ok says why."),
        },
        errors=(InternalError,),
    ),
    "metrics": Operation(
        summary="Expose metrics for Prometheus",
        tag="operations",
        caller=ANYBODY,
        answers={200: Answer("All metrics.", dict.fromkeys(_EXPOSITIONS, TEXT))},
        errors=(InternalError, NotAuthenticated),
    ),
    "assets": Operation(
        summary="Fetch a picture by its link",
        description="Also in parts (`Range`), for as long as the link lasts.",
        tag="images",
        caller=ANYBODY,
        answers={
            200: Answer("The picture.", _PICTURE),
            206: Answer("The part that was asked for.", _PICTURE),
            304: Answer("The picture is the one that is known (`If-None-Match`)."),
            416: Answer("There is no such part."),
        },
        errors=(InternalError, NotFound, PictureExpired),
    ),
    "openapi": Operation(
        summary="Describe this server",
        tag="operations",
        caller=ANYBODY,
        answers={200: Answer("This document.", {JSON: named({})})},
        errors=(InternalError,),
    ),
}

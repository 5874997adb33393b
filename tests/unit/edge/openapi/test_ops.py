from __future__ import annotations

from prometheus_client.exposition import choose_encoder

from gateway.edge.openapi.ops import OPERATIONS


def test_metrics_are_described_in_every_format() -> None:
    """Whatever the scraper asks for, its media type is in the document."""
    told = OPERATIONS["metrics"].answers[200].content

    for accept in ("", "text/plain", "application/openmetrics-text; version=1.0.0"):
        _, content_type = choose_encoder(accept)
        assert content_type.partition(";")[0] in told


def test_probes_are_for_anybody() -> None:
    """None of them asks for a key."""
    assert {""} == {operation.caller for operation in OPERATIONS.values()}

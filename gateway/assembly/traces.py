"""Where traces go: nowhere, or to a collector by an extra that is imported only then."""

from __future__ import annotations

from contextlib import AsyncExitStack

from gateway import __version__
from gateway.config.load import Loaded
from gateway.config.problems import ConfigError, Problem
from gateway.telemetry.traces import NO_TRACER, Tracer


def open_tracer(stack: AsyncExitStack, loaded: Loaded, instance: str) -> Tracer:
    """Return what traces; `stack` closes it, after everything that is entered later.

    Raises ConfigError where there is an endpoint and no OpenTelemetry.
    """
    traces = loaded.settings.traces
    if not traces.endpoint:
        return NO_TRACER
    try:
        # An extra, and slow to import.
        from gateway.telemetry.otel import open_tracer as opened  # noqa: PLC0415
    except ImportError:
        message = "needs OpenTelemetry: pip install 'image-gateway[otel]'"
        raise ConfigError([Problem("traces.endpoint", message)]) from None
    ca_file = loaded.settings.network.ca_file
    headers = loaded.secrets.trace_headers
    tracer = opened(
        traces.endpoint,
        headers={name: value.get_secret_value() for name, value in headers.items()},
        sample_ratio=traces.sample_ratio,
        propagates=traces.propagate,
        ca_file=None if ca_file is None else str(ca_file),
        version=__version__,
        instance=instance,
    )
    stack.push_async_callback(tracer.close)
    return tracer

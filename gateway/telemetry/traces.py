"""Spans: what the rest of the gateway knows of traces, whoever keeps them.

A span's *context* is one text that travels, in headers and on a task's record: `traceparent`, then
after a space `tracestate` where there is one (W3C Trace Context). It is empty where nothing is
traced, and then every call here does nothing.

Attributes are names of the configuration and the catalogue, numbers and our own ids. Prompts, keys,
links and names of files are never passed to a span.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from enum import Enum
from typing import Protocol

#: Names are those of `conventions`; what is None is not told.
Attributes = Mapping[str, str | int | float | bool | None]

NOTHING: Attributes = {}


class Kind(Enum):
    """Which side of a call a span sees."""

    SERVER = "server"
    CLIENT = "client"
    INTERNAL = "internal"


class Span(Protocol):
    """Something that takes time. It is told of when it ends, and never when it does not."""

    @property
    def is_recording(self) -> bool:
        """Whether anybody will read what it is told."""
        ...

    @property
    def trace_id(self) -> str:
        """32 hexadecimal digits, also of a trace that is not sampled; empty for none."""
        ...

    @property
    def context(self) -> str:
        """What others begin their spans of the same trace from; empty for none."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """What a call to an upstream carries that is made under this span."""
        ...

    def child(
        self,
        name: str,
        *,
        kind: Kind = Kind.INTERNAL,
        attributes: Attributes = NOTHING,
        ago_s: float = 0.0,
    ) -> Span:
        """Begin a span under this one, or say that it began so many seconds ago."""
        ...

    def rename(self, name: str) -> None:
        """Call it by what was learned of it only later."""
        ...

    def tell(self, attributes: Attributes) -> None:
        """Add attributes."""
        ...

    def link(self, context: str) -> None:
        """Point at a span of another trace; a context that is none is passed over."""
        ...

    def fail(self, error_type: str) -> None:
        """Mark it as failed; `error_type` is one of a few words."""
        ...

    def end(self, *, ago_s: float = 0.0) -> None:
        """End it, or say that it ended so many seconds ago. Only the first time counts."""
        ...


class Tracer(Protocol):
    """Begins spans that have no span above them in this process."""

    def begin(
        self,
        name: str,
        *,
        parent: str = "",
        kind: Kind = Kind.INTERNAL,
        attributes: Attributes = NOTHING,
    ) -> Span:
        """Begin a span below the one of a context, or a trace where there is none.

        What is not a context counts as none: it came from outside.
        """
        ...


class NoSpan:
    """A span of which nobody will hear."""

    is_recording = False
    trace_id = ""
    context = ""
    headers: Mapping[str, str] = {}

    def child(
        self,
        name: str,  # noqa: ARG002 - as Span has them, here and below
        *,
        kind: Kind = Kind.INTERNAL,  # noqa: ARG002
        attributes: Attributes = NOTHING,  # noqa: ARG002
        ago_s: float = 0.0,  # noqa: ARG002
    ) -> Span:
        """Return this one."""
        return self

    def rename(self, name: str) -> None:
        """Do nothing."""

    def tell(self, attributes: Attributes) -> None:
        """Do nothing."""

    def link(self, context: str) -> None:
        """Do nothing."""

    def fail(self, error_type: str) -> None:
        """Do nothing."""

    def end(self, *, ago_s: float = 0.0) -> None:
        """Do nothing."""


NO_SPAN: Span = NoSpan()


class NoTracer:
    """Traces nothing."""

    def begin(
        self,
        name: str,  # noqa: ARG002 - as Tracer has them
        *,
        parent: str = "",  # noqa: ARG002
        kind: Kind = Kind.INTERNAL,  # noqa: ARG002
        attributes: Attributes = NOTHING,  # noqa: ARG002
    ) -> Span:
        """Return the span of which nobody will hear."""
        return NO_SPAN


NO_TRACER: Tracer = NoTracer()

_current: ContextVar[Span] = ContextVar("span", default=NO_SPAN)


def current_span() -> Span:
    """Return the span that is worked under here, inherited by background work begun here."""
    return _current.get()


@contextmanager
def active(span: Span) -> Iterator[Span]:
    """Work under a span; it is not ended."""
    token = _current.set(span)
    try:
        yield span
    finally:
        _current.reset(token)


@contextmanager
def spanned(
    name: str, *, kind: Kind = Kind.INTERNAL, attributes: Attributes = NOTHING
) -> Iterator[Span]:
    """Work under a child of the current span, which ends with the block and fails by its errors."""
    span = current_span().child(name, kind=kind, attributes=attributes)
    with active(span):
        try:
            yield span
        except BaseException as error:  # also when cancelled: a span says how it ended
            span.fail(type(error).__name__)
            raise
        finally:
            span.end()


def context_of(headers: Sequence[tuple[bytes, bytes]]) -> str:
    """Return the context that a request brings; empty for none, or more than one."""
    parents = [value for name, value in headers if name == b"traceparent"]
    if len(parents) != 1:
        return ""
    parent = parents[0].decode("latin-1").strip()
    if not parent or " " in parent:
        return ""
    states = [value.decode("latin-1") for name, value in headers if name == b"tracestate"]
    return f"{parent} {','.join(states)}".rstrip()


def trace_id_of(context: str) -> str:
    """Return the trace of a context that this gateway has written; empty for none."""
    return context[3:35]

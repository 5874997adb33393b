"""Logs: lines in UTC, one event each, with an `action` that queries can rely on.

They are JSON, or laid out for people to read.

Prompts, keys and links are never passed to a logger; there is nothing here that would remove them.
"""

from __future__ import annotations

import logging
import sys
from typing import Literal, TextIO

import structlog
from structlog.types import Processor

#: Libraries that print more than we want to promise: httpx logs every URL with its query at INFO.
_QUIET = (
    "httpx",
    "httpx2",
    "httpcore",
    "aiohttp",
    "asyncio",
    "uvicorn",
    "uvicorn.error",
    "uvicorn.access",
)

#: What uvicorn says of an answer that is cut off on purpose; its request's own line tells why.
_SAID_ALREADY = "ASGI callable returned without completing response."


def configure_logging(
    stream: TextIO = sys.stderr,
    *,
    level: int = logging.INFO,
    form: Literal["json", "console"] = "json",
) -> None:
    """Send our own events and everybody's warnings to `stream`; the last call of this decides."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer()
                if form == "json"
                else structlog.dev.ConsoleRenderer(colors=stream.isatty()),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("uvicorn.error").addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    return record.msg != _SAID_ALREADY

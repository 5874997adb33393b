import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from gateway.telemetry.log import configure_logging

LIBRARIES = ["httpx", "httpcore", "aiohttp", "asyncio", "uvicorn", "uvicorn.error"]


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Configure logging to a stream, and put everything back afterwards."""
    names = [*LIBRARIES, "uvicorn.access"]
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    levels = {name: logging.getLogger(name).level for name in names}
    stream = io.StringIO()
    configure_logging(stream)
    yield stream
    structlog.reset_defaults()
    root.handlers = handlers
    root.setLevel(level)
    for name in names:
        logging.getLogger(name).setLevel(levels[name])


def _lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_our_events_are_json_lines(stream: io.StringIO) -> None:
    """An event is one line of JSON with its fields, its level and the time in UTC."""
    structlog.get_logger("gateway.here").info("hello", action="greet", count=3)

    (line,) = _lines(stream)
    timestamp = str(line.pop("timestamp"))
    assert line == {"event": "hello", "action": "greet", "count": 3, "level": "info"}
    assert "T" in timestamp
    assert timestamp.endswith("Z")


def test_context_is_merged(stream: io.StringIO) -> None:
    """Ids bound for a request are on every line of it."""
    with structlog.contextvars.bound_contextvars(request_id="req_1"):
        structlog.get_logger("gateway.there").warning("hello")

    (line,) = _lines(stream)
    assert (line["request_id"], line["level"]) == ("req_1", "warning")


def test_exceptions_stay_on_their_line(stream: io.StringIO) -> None:
    """A traceback is a field, not forty lines between two events."""
    try:
        int("broken")
    except ValueError:
        structlog.get_logger("gateway.elsewhere").exception("hello")

    (line,) = _lines(stream)
    assert "ValueError: invalid literal" in str(line["exception"])
    assert line["level"] == "error"


@pytest.mark.parametrize("name", LIBRARIES)
def test_libraries_are_quiet_below_warnings(stream: io.StringIO, name: str) -> None:
    """Libraries are heard when something is wrong: httpx would print every URL with its query."""
    logging.getLogger(name).info("GET https://files.example/x?token=secret")
    logging.getLogger(name).warning("careful")

    lines = [(line["event"], line["level"]) for line in _lines(stream)]
    assert lines == [("careful", "warning")]


def test_others_log_in_the_same_form(stream: io.StringIO) -> None:
    """What uses the standard library's logging comes as JSON too, with its exception."""
    try:
        int("broken")
    except ValueError:
        logging.getLogger("somebody").exception("went %s", "wrong")

    (line,) = _lines(stream)
    assert (
        *(line["event"], line["level"]),
        "ValueError: invalid literal" in str(line["exception"]),
    ) == ("went wrong", "error", True)
    assert "timestamp" in line


@pytest.mark.parametrize(("level", "lines"), [(logging.INFO, 1), (logging.WARNING, 0)])
def test_level(stream: io.StringIO, level: int, lines: int) -> None:
    """Events below the level are dropped, and a new configuration replaces the old one."""
    second = io.StringIO()
    configure_logging(second, level=level)
    structlog.get_logger(f"gateway.level{level}").info("hello")
    structlog.get_logger(f"gateway.debug{level}").debug("hello")

    assert (lines, 0) == (len(_lines(second)), len(_lines(stream)))


def test_an_answer_that_is_cut_off_is_no_news(stream: io.StringIO) -> None:
    """The server's line about it has no request; the request's own line tells why."""
    logger = logging.getLogger("uvicorn.error")
    logger.error("ASGI callable returned without completing response.")
    logger.error("ASGI callable returned without starting response.")

    (line,) = _lines(stream)
    assert line["event"] == "ASGI callable returned without starting response."


def test_lines_for_people(stream: io.StringIO) -> None:
    """On a console an event is a line to read, with its fields, and no colours in a file."""
    second = io.StringIO()
    configure_logging(second, form="console")
    structlog.get_logger("gateway.console").info("hello", action="greet", count=3)

    (line,) = second.getvalue().splitlines()
    assert "" == stream.getvalue()
    assert "hello" in line
    assert "action=greet" in line
    assert "count=3" in line
    assert "\x1b" not in line

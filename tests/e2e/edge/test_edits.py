"""Cases 29 to 42 of protocols/openai_images.md §15, over real HTTP, and what is beside them."""

from __future__ import annotations

import asyncio
import base64
import io
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from PIL import Image

from gateway.simulator.settings import SimulatorSettings
from tests.support.gateway import TEAM_KEY, Running, running_gateway
from tests.support.sockets import answer, raw, raw_server
from tests.support.uploads import (
    Part,
    a_bomb,
    a_file,
    a_form,
    a_part,
    a_picture,
    form_headers,
)

QUICK = SimulatorSettings(latency_median_s=0.0, latency_sigma=0.0, seed=7)
MODEL_2 = '[models."gpt-image-2"]\nroutes = ["evolink"]'
FIELDS = {"model": "gpt-image-1.5", "prompt": "make it blue", "quality": "low"}
PNG = a_picture()


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    """Serve with two models, one of which takes masks."""
    async with running_gateway(tmp_path, simulator=QUICK, sections=MODEL_2) as served:
        yield served


@pytest.fixture
async def strict(tmp_path: Path) -> AsyncIterator[Running]:
    """Serve as strictly as OpenAI."""
    async with running_gateway(
        tmp_path, simulator=QUICK, sections=MODEL_2, server='compat = "strict"'
    ) as served:
        yield served


def fields(**more: str) -> list[Part]:
    """Return the scalars of a form."""
    return [a_part(name, value) for name, value in (FIELDS | more).items()]


async def post(running: Running, parts: Sequence[Part]) -> httpx.Response:
    """Send a form to be edited."""
    return await running.client.post(
        "/v1/images/edits", content=a_form(parts), headers=form_headers()
    )


async def post_json(running: Running, **body: Any) -> httpx.Response:
    """Send JSON to be edited."""
    return await running.client.post("/v1/images/edits", json=FIELDS | body)


def error(answer: httpx.Response) -> tuple[int, str | None, str | None]:
    """Return status, param and code of a refusal in OpenAI's envelope."""
    told = answer.json()["error"]
    assert answer.headers["x-request-id"].startswith("req_")
    return answer.status_code, told["param"], told["code"]


def data_url(content: bytes = PNG, kind: str = "image/png") -> dict[str, str]:
    """Return an entry of `images` that carries its picture."""
    return {"image_url": f"data:{kind};base64,{base64.b64encode(content).decode()}"}


async def test_pictures_as_stock_clients_send_them(running: Running) -> None:
    """One file, a list, raw bytes without a type: each is edited, priced and paid once."""
    async with openai.AsyncOpenAI(
        base_url=f"{running.url}/v1", api_key=TEAM_KEY, max_retries=0, timeout=30
    ) as client:
        one = await client.images.edit(image=PNG, prompt="blue", model="gpt-image-1.5")
        three = await client.images.edit(
            image=[PNG, a_picture("JPEG"), a_picture("WEBP")],
            prompt="blue",
            model="gpt-image-1.5",
            quality="low",
            size="1536x1024",
        )

    assert one.data is not None
    assert three.data is not None
    picture = Image.open(io.BytesIO(base64.b64decode(three.data[0].b64_json or "")))
    assert ((1536, 1024), "PNG") == (picture.size, picture.format)
    assert three.usage is not None
    assert 3 * 1536 == three.usage.input_tokens_details.image_tokens
    stats = await running.simulated()
    # The picture that both calls have in common went up once.
    assert (2, 3, 4) == (stats["submits"], stats["files"], stats["references_read"])
    spent, held = await running.budget()
    assert (stats["cost_microusd"], 0) == (spent, held)


async def test_forms_of_any_order_and_writing(running: Running) -> None:
    """Files first or last, a field twice, quoted boundaries, folded headers, an epilogue."""
    quoted = {"content-type": 'multipart/form-data; boundary="x b=1"'}
    folded = a_part("image", PNG, filename="a.png")
    folded = (folded[0].replace("; filename", ";\r\n filename"), folded[1])
    repeated = [a_file(PNG), a_file(a_picture(shade=9))]
    forms = [
        (a_form([*fields(), a_file(PNG)]), form_headers()),
        (a_form([a_file(PNG), *fields()]), form_headers()),
        (a_form([*fields(), *repeated]), form_headers()),
        (a_form([*fields(), a_file(PNG)], boundary="x b=1"), quoted),
        (a_form([*fields(), folded]), form_headers()),
        (a_form([*fields(), a_file(PNG)], epilogue=b"\r\n"), form_headers()),
        (
            a_form(
                [*fields(user="null"), a_file(PNG), a_file(b"", "mask")[:0] or a_part("n", "1")]
            ),
            form_headers(),
        ),
        (
            a_form([*fields(), a_part("image[]", PNG, filename='../../etc/pass"wd;x.png')]),
            form_headers(),
        ),
    ]
    answers = [
        await running.client.post("/v1/images/quotes", content=content, headers=headers)
        for content, headers in forms
    ]

    assert [200] * len(forms) == [each.status_code for each in answers], answers[-1].text
    counted = [each.json()["references"] for each in answers]
    assert [1, 1, 2, 1, 1, 1, 1, 1] == counted


async def test_how_many_pictures_there_may_be(running: Running) -> None:
    """Sixteen are edited; one more is refused, and so are none."""
    files = [a_file(a_picture(shade=shade), "image[]") for shade in range(17)]
    sixteen = await post(running, [*fields(), *files[:16]])
    seventeen = await post(running, [*fields(), *files])
    none = await post(running, fields())

    assert 200 == sixteen.status_code
    assert 16 == (await running.simulated())["references_read"]
    assert (400, "image", "array_above_max_length") == error(seventeen)
    assert (400, "image", "missing_required_parameter") == error(none)


async def test_masks(running: Running) -> None:
    """Taken where the model takes them; else the models that do are named; checked either way."""
    on_2 = fields(model="gpt-image-2")
    mask = a_file(a_picture(alpha=True), "mask")
    taken = await post(running, [*on_2, a_file(PNG), mask])
    elsewhere = await post(running, [*fields(), a_file(PNG), mask])
    other_size = a_file(a_picture(alpha=True, size=(32, 32)), "mask")
    mismatch = await post(running, [*on_2, a_file(PNG), other_size])
    opaque = await post(running, [*on_2, a_file(PNG), a_file(PNG, "mask")])
    as_json = await post_json(
        running, model="gpt-image-2", images=[data_url()], mask=data_url(a_picture(alpha=True))
    )

    assert [200, 200] == [taken.status_code, as_json.status_code]
    assert (400, "mask", "mask_not_supported") == error(elsewhere)
    assert "These models do: gpt-image-2." in elsewhere.json()["error"]["message"]
    assert "mask size does not match" in mismatch.json()["error"]["message"]
    assert "missing alpha channel" in opaque.json()["error"]["message"]
    assert [(400, "mask", "invalid_image")] * 2 == [error(mismatch), error(opaque)]
    # With each order its picture and its mask, which is another file.
    stats = await running.simulated()
    assert (2, 2, 4) == (stats["submits"], stats["files"], stats["references_read"])


async def test_files_that_are_no_pictures(running: Running) -> None:
    """Known by their bytes and not by what they are said to be; nothing is ordered for them."""
    untyped = "application/octet-stream"
    sniffed = await post(running, [*fields(), a_file(PNG, kind=untyped)])
    text = await post(running, [*fields(), a_file(b"hello", kind="text/plain")])
    empty = await post(running, [*fields(), a_file(b"")])
    broken = await post(running, [*fields(), a_file(PNG[:20], "image[]")])
    bomb = await post(running, [*fields(), a_file(a_bomb())])
    named = await post(running, [*fields(), a_file(PNG, "images")])
    other = await post(running, [*fields(), a_file(PNG, "picture")])

    assert 200 == sniffed.status_code
    assert (400, "image", "unsupported_file_mimetype") == error(text)
    assert (
        "Invalid file 'image': unsupported mimetype ('text/plain'). Supported file formats are"
        " 'image/jpeg', 'image/png', and 'image/webp'." == text.json()["error"]["message"]
    )
    assert (400, "image", "empty_file") == error(empty)
    assert (400, "image[0]", "invalid_image") == error(broken)
    assert (400, "image", "invalid_image") == error(bomb)
    assert "pixels" in bomb.json()["error"]["message"]
    assert (400, "images", "invalid_value") == error(named)
    assert (
        "Unknown parameter: 'images'. For multipart/form-data use 'image' or 'image[]'."
        == named.json()["error"]["message"]
    )
    assert (400, "picture", "unknown_parameter") == error(other)
    assert 1 == (await running.simulated())["submits"]


async def test_pictures_in_json(running: Running) -> None:
    """Data URLs are edited; everything else is told with its place."""
    taken = await post_json(running, images=[data_url(), data_url(a_picture("JPEG"))])
    large = await post_json(running, images=[data_url(PNG + os.urandom(900_000))])
    refused = [
        (await post_json(running, **body), expected)
        for body, expected in (
            ({"image": data_url()}, ("image", "invalid_value")),
            ({"image[]": [data_url()]}, ("image[]", "invalid_value")),
            ({"images": ["str"]}, ("images[0]", "invalid_type")),
            ({"images": []}, ("images", "empty_array")),
            ({"images": None}, ("images", "invalid_type")),
            ({"images": {}}, ("images", "invalid_type")),
            ({}, ("images", "missing_required_parameter")),
            ({"images": [data_url() | {"file_id": "file-1"}]}, ("images[0]", "invalid_value")),
            ({"images": [{}]}, ("images[0]", "invalid_value")),
            ({"images": [{"file_id": "file-1"}]}, ("images[0].file_id", "unsupported_value")),
            ({"images": [{"image_url": 1}]}, ("images[0].image_url", "invalid_type")),
            ({"images": [{"image_url": "ftp://x/a"}]}, ("images[0].image_url", "invalid_value")),
            (
                {"images": [{"image_url": "data:image/png;base64,%"}]},
                ("images[0].image_url", "invalid_value"),
            ),
            (
                {"images": [data_url(b"hello")]},
                ("images[0].image_url", "unsupported_file_mimetype"),
            ),
            ({"images": [data_url()] * 17}, ("images", "array_above_max_length")),
            ({"images": [data_url()], "mask": "x"}, ("mask", "invalid_type")),
            (
                {"images": [data_url()], "prompt": "x" * 600_000},
                ("prompt", "string_above_max_length"),
            ),
        )
    ]

    assert [200, 200] == [taken.status_code, large.status_code], (taken.text, large.text)
    for told, expected in refused:
        assert (400, *expected) == error(told), told.text
    assert (
        "Unknown parameter: 'image'. For application/json on /v1/images/edits, use 'images'"
        " (array)." == refused[0][0].json()["error"]["message"]
    )
    assert (
        "Invalid type for 'images': expected an array of objects, but got an object instead."
        == refused[5][0].json()["error"]["message"]
    )


async def test_scalars_of_a_form(running: Running) -> None:
    """Texts stand for what JSON has; what they cannot stand for is told as OpenAI does."""
    two = await post(running, [*fields(n="2", stream="false"), a_file(PNG)])
    words = await post(running, [*fields(n="abc"), a_file(PNG)])
    empty = await post(running, [*fields(quality=""), a_file(PNG)])
    order = await post(running, [*fields(n="0"), a_file(b"hello")])

    assert (200, 2) == (two.status_code, len(two.json()["data"]))
    assert (400, "n", "invalid_type") == error(words)
    assert (
        "Invalid type for 'n': expected an integer, but got a string value that could not be"
        " converted into an integer." == words.json()["error"]["message"]
    )
    assert (400, "quality", "invalid_value") == error(empty)
    # Pictures come before n (protocols/openai_images.md §2.1).
    assert (400, "image", "unsupported_file_mimetype") == error(order)


async def test_as_strict_as_openai(strict: Running) -> None:
    """The declared type counts, and fidelity is refused where the model has none."""
    untyped = a_file(PNG, kind="application/octet-stream")
    one = await post(strict, [*fields(), untyped])
    listed = await post(
        strict,
        [*fields(), a_file(PNG, "image[]"), (untyped[0].replace('"image"', '"image[]"'), PNG)],
    )
    fidelity = fields(input_fidelity="high")
    lacks_it = await post(strict, [*fidelity[1:], a_part("model", "gpt-image-2"), a_file(PNG)])

    assert (400, "image", "unsupported_file_mimetype") == error(one)
    assert (400, "image[1]", "unsupported_file_mimetype") == error(listed)
    assert "('application/octet-stream')" in one.json()["error"]["message"]
    assert (400, "input_fidelity", "invalid_input_fidelity_model") == error(lacks_it)


async def test_fidelity_is_nobodys_trouble(running: Running) -> None:
    """Clients that always ask for it are served, whatever the model."""
    parts = [*fields(model="gpt-image-2", input_fidelity="high"), a_file(PNG)]

    assert 200 == (await post(running, parts)).status_code


async def test_a_large_upload_that_is_announced(running: Running) -> None:
    """`Expect: 100-continue` gets its 100, and 40 MB their 200; without a length, as well."""
    big = PNG + os.urandom(40_000_000)
    body = a_form([*fields(), a_file(big)])
    port = int(running.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = [
        "POST /v1/images/edits HTTP/1.1",
        "Host: x",
        f"Authorization: Bearer {TEAM_KEY}",
        "Expect: 100-continue",
        f"Content-Length: {len(body)}",
        f"Content-Type: {form_headers()['content-type']}",
        "",
        "",
    ]
    writer.write("\r\n".join(head).encode())
    async with asyncio.timeout(60):
        going_on = await reader.readuntil(b"\r\n\r\n")
        writer.write(body)
        await writer.drain()
        answer = await reader.readuntil(b"\r\n\r\n")
    writer.close()

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 1 << 20):
            yield body[start : start + (1 << 20)]

    chunked = await running.client.post(
        "/v1/images/edits", content=chunks(), headers=form_headers()
    )

    assert going_on.startswith(b"HTTP/1.1 100")
    assert answer.startswith(b"HTTP/1.1 200")
    assert 200 == chunked.status_code
    assert 1 == (await running.simulated())["files"]


async def test_more_than_a_server_takes(tmp_path: Path) -> None:
    """413 in the envelope, which a client gets to read that sends everything first."""
    async with running_gateway(
        tmp_path, simulator=QUICK, server='max_upload = "1MiB"\nmax_body = "64KiB"'
    ) as running:
        body = a_form([*fields(), a_file(PNG + bytes(3 << 20))])

        async def chunks() -> AsyncIterator[bytes]:
            for start in range(0, len(body), 1 << 16):
                yield body[start : start + (1 << 16)]

        told = await running.client.post("/v1/images/edits", content=body, headers=form_headers())
        chunked = await running.client.post(
            "/v1/images/edits", content=chunks(), headers=form_headers()
        )
        rest = await post_json(running, images=[data_url()], prompt="x" * 70_000)
        fits = await post(running, [*fields(), a_file(PNG + bytes(200_000))])

    assert [(413, None, "request_too_large")] * 3 == [error(told), error(chunked), error(rest)]
    assert str(1 << 20) in told.json()["error"]["message"]
    assert 200 == fits.status_code


async def test_a_price_for_an_edit(running: Running) -> None:
    """Quotes take the bodies of edits: references are in the price, and nothing is ordered."""
    form = await running.client.post(
        "/v1/images/quotes", content=a_form([*fields(), a_file(PNG)]), headers=form_headers()
    )
    linked = {"images": [{"image_url": "https://nowhere.invalid/a.png"}] * 2}
    as_json = await running.client.post("/v1/images/quotes", json=FIELDS | linked)
    words = await running.client.post("/v1/images/quotes", json=FIELDS)

    quotes = [each.json() for each in (form, as_json, words)]
    assert ["edit", "edit", "generation"] == [each["operation"] for each in quotes]
    assert [1536, 3072, None] == [each["tokens"].get("image_input") for each in quotes]
    assert quotes[1]["hold"]["microusd"] - quotes[0]["hold"]["microusd"] in (11_059, 11_060)
    stats = await running.simulated()
    assert (0, 0) == (stats["submits"], stats["files"])


async def test_links_are_fetched_from_nowhere_private(tmp_path: Path) -> None:
    """Whatever a client names, private servers hear nothing of it; others' pictures are edited."""
    async with (
        raw_server(answer(200, PNG)) as pictures,
        raw_server(answer(200, PNG)) as private,
        raw_server(raw(redirect_to(private.port))) as redirecting,
    ):
        allow = f'[references]\nallow = ["{pictures.host}", "{redirecting.host}"]'
        async with running_gateway(tmp_path, simulator=QUICK, sections=allow) as running:
            fetched = await post_json(running, images=[{"image_url": f"{pictures.url}/a.png"}])
            refused = [
                await post_json(
                    running, images=[data_url(), {"image_url": url.format(port=private.port)}]
                )
                for url in (
                    *("http://127.0.0.1:{port}/a", "http://localhost:{port}/a"),
                    *("http://2130706433:{port}/a", "http://0x7f.1:{port}/a", "http://0:{port}/a"),
                    *("http://[::ffff:127.0.0.1]:{port}/a", "http://169.254.169.254/latest"),
                    f"{redirecting.url}/a",
                )
            ]
            stats = await running.simulated()

    assert 200 == fetched.status_code
    assert 1 == pictures.connections
    for answered in refused:
        assert (400, "images[1].image_url", "invalid_image") == error(answered)
    assert (0, 1) == (private.connections, redirecting.connections)
    assert (1, 1) == (stats["submits"], stats["files"])


def redirect_to(port: int) -> bytes:
    """Return an answer that leads to another server of this machine."""
    lines = ("HTTP/1.1 302 Found", f"Location: http://127.0.0.1:{port}/a", "Content-Length: 0")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def test_links_that_are_handed_on(tmp_path: Path) -> None:
    """Where the provider fetches by itself, nothing is fetched here."""
    async with (
        raw_server(answer(200, PNG, {"content-type": "image/png"})) as pictures,
        running_gateway(
            tmp_path,
            simulator=QUICK,
            provider='image_urls = "pass"',
            sections=f'[references]\nallow = ["{pictures.host}"]',
        ) as running,
    ):
        taken = await post_json(running, images=[{"image_url": f"{pictures.url}/a.png"}])
        private = await post_json(running, images=[{"image_url": "http://10.0.0.1/a.png"}])
        stats = await running.simulated()

    assert 200 == taken.status_code
    assert (400, "images[0].image_url", "invalid_image") == error(private)
    assert (1, 0, 1) == (stats["submits"], stats["files"], stats["references_read"])
    # By the simulator.
    assert 1 == len(pictures.requests)


async def test_references_as_links_to_this_server(tmp_path: Path) -> None:
    """Signed ones, which the upstream opens without a key; nothing is uploaded."""
    async with running_gateway(
        tmp_path, simulator=QUICK, server='public_url = "URL"', provider='references = "links"'
    ) as running:
        taken = await post(running, [*fields(), a_file(PNG), a_file(a_picture("JPEG"))])
        stats = await running.simulated()

    assert 200 == taken.status_code
    assert (1, 0, 2) == (stats["submits"], stats["files"], stats["references_read"])


async def test_one_retry_of_an_edit_that_timed_out_is_one_submission(tmp_path: Path) -> None:
    """A stock client that gives up sends another boundary, and gets the picture it has paid for."""
    slow = SimulatorSettings(latency_median_s=4.0, latency_sigma=0.0, seed=7)
    async with (
        running_gateway(tmp_path, simulator=slow) as running,
        openai.AsyncOpenAI(
            base_url=f"{running.url}/v1", api_key=TEAM_KEY, timeout=1.8, max_retries=6
        ) as client,
    ):
        answered = await client.images.edit(
            image=[("a.png", PNG), ("b.png", a_picture("WEBP"))],
            prompt="blue",
            model="gpt-image-1.5",
            quality="low",
            size="1024x1024",
        )
        stats, metrics = await running.simulated(), await running.metrics()
        spent, held = await running.budget()

    assert answered.data is not None
    assert (1, 1, 2) == (stats["submits"], stats["renders_completed"], stats["files"])
    assert metrics['gateway_joined_retries_total{team="design"}'] >= 1
    assert (stats["cost_microusd"], 0) == (spent, held)


async def test_a_file_service_that_refuses(tmp_path: Path) -> None:
    """503 for what lies between us and it: nothing is submitted, and its text is not told."""
    simulator = replace(QUICK, files_quota=0)
    async with running_gateway(tmp_path, simulator=simulator) as running:
        refused = await post(running, [*fields(), a_file(PNG)])
        stats, budget = await running.simulated(), await running.budget()

    assert (503, None, "upstream_unavailable") == error(refused)
    assert "quota" not in refused.text
    assert (0, (0, 0)) == (stats["submits"], budget)


async def test_edits_as_a_stream(running: Running) -> None:
    """Events of edits and no others, one for each picture, and then the end."""
    async with openai.AsyncOpenAI(
        base_url=f"{running.url}/v1", api_key=TEAM_KEY, max_retries=0, timeout=30
    ) as client:
        stream = await client.images.edit(
            image=PNG, prompt="blue", model="gpt-image-1.5", n=2, stream=True, partial_images=1
        )
        events = [event async for event in stream]
    wrong = await post(running, [*fields(stream="true"), a_file(b"hello")])

    assert ["image_edit.completed"] * 2 == [event.type for event in events]
    for event in events:
        assert event.type == "image_edit.completed"
        assert base64.b64decode(event.b64_json).startswith(b"\x89PNG")
        assert 1536 == event.usage.input_tokens_details.image_tokens
    assert (400, "image", "unsupported_file_mimetype") == error(wrong)

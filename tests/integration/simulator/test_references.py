import base64
import time
from io import BytesIO
from typing import Any

import httpx
import pytest
from PIL import Image

from gateway.simulator.settings import References, SimulatorSettings

UPLOAD = "/api/v1/files/upload/stream"


def picture(kind: str = "PNG", size: tuple[int, int] = (64, 48), mode: str = "RGB") -> bytes:
    """Return a small picture."""
    output = BytesIO()
    Image.new(mode, size).save(output, kind)
    return output.getvalue()


def ended(simulator: Any, task_id: str) -> dict[str, Any]:
    """Return a task once it has ended; fail after a minute."""
    end_s = time.monotonic() + 60
    while True:
        body: dict[str, Any] = simulator.client.get(f"/v1/tasks/{task_id}").json()
        if body["status"] in {"completed", "failed"}:
            return body
        assert time.monotonic() < end_s, body
        time.sleep(0.01)


def edit(simulator: Any, *links: str, **parameters: Any) -> dict[str, Any]:
    """Submit an edit that takes no time, and return the task when it has ended."""
    answer: httpx.Response = simulator.submit(
        "a fox [[latency:0]]", image_urls=list(links), **parameters
    )
    assert answer.status_code == 200, answer.text
    return ended(simulator, answer.json()["id"])


def test_references_are_fetched_and_billed(simulator: Any, receiver: Any) -> None:
    """Each reference costs 1536 image-input tokens."""
    receiver.pages |= {"/a.png": picture(), "/b.jpg": picture("JPEG")}
    task = edit(simulator, receiver.url + "/a.png", receiver.url + "/b.jpg")

    assert (task["status"], task["usage"]["image_input_tokens"]) == ("completed", 2 * 1536)
    assert simulator.stats()["references_read"] == 2
    assert simulator.stats()["credits_used"] == task["usage"]["credits_used"]


def test_files_of_our_own_can_be_references(start_simulator: Any) -> None:
    """An uploaded file, a finished picture, and a link by the name the client uses."""
    simulator = start_simulator(SimulatorSettings(latency_median_s=0, seed=1))
    told = simulator.client.post(UPLOAD, files={"file": ("a.png", picture())}).json()["data"]
    result = edit(simulator, told["file_url"])["results"][0]

    assert edit(simulator, result, told["file_url"])["status"] == "completed"
    assert simulator.stats()["references_read"] == 3


@pytest.mark.parametrize(
    ("page", "code", "message"),
    [
        (None, "image_processing_error", "Failed to download image: the file host answered 404"),
        (b"no picture", "image_processing_error", "corrupt"),
        (picture()[:-30], "image_processing_error", "corrupt"),
        (picture("GIF"), "invalid_parameters", "unsupported file type"),
    ],
)
def test_bad_references_fail_the_task(
    simulator: Any, receiver: Any, page: bytes | None, code: str, message: str
) -> None:
    """The submit is accepted, the task fails, and nothing is charged."""
    if page is not None:
        receiver.pages["/a.png"] = page
    task = edit(simulator, receiver.url + "/a.png")

    assert (task["status"], task["error"]["code"]) == ("failed", code)
    assert message in task["error"]["message"]
    stats = simulator.stats()
    assert (stats["credits_used"], stats["in_flight"], stats["references_read"]) == (0, 0, 0)
    assert simulator.client.get("/v1/credits").json()["data"]["user"]["remaining_credits"] == 100000


@pytest.mark.parametrize("link", ["http://127.0.0.1:1/a.png", "http://no-such-host.invalid/a.png"])
def test_unreachable_references_fail_the_task(simulator: Any, link: str) -> None:
    """Nobody answers there."""
    task = edit(simulator, link)

    assert (task["status"], task["error"]["code"]) == ("failed", "image_processing_error")


def test_dead_links_of_our_own_fail_the_task(simulator: Any) -> None:
    """A deleted or expired upload is no reference."""
    task = edit(simulator, simulator.url + "/gone.png")

    assert task["error"]["message"].endswith("the file host answered 404")


def test_sizes_by_model(simulator: Any, receiver: Any) -> None:
    """Edges outside a model's range are told as the documents do."""
    receiver.pages["/a.png"] = picture(size=(383, 400))
    task = edit(simulator, receiver.url + "/a.png", model="wan2.5-image-to-image", quality=None)

    assert task["error"]["message"] == "image dimensions must be between 384 and 5000"


def test_too_many_bytes(simulator: Any, receiver: Any) -> None:
    """A file beyond the model's limit is not read to its end."""
    receiver.pages["/a.png"] = picture() + b"x" * (10 * 1024 * 1024)
    receiver.missing_bytes = 1000
    task = edit(simulator, receiver.url + "/a.png", model="nano-banana-beta")

    assert (task["error"]["code"], task["error"]["message"]) == (
        "invalid_parameters",
        "file size exceeds 10MB",
    )


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (picture(mode="RGBA"), None),
        (picture(), "Invalid mask image format - mask image missing alpha channel"),
        (
            picture(size=(64, 64), mode="RGBA"),
            "Invalid mask image format - mask size does not match image size",
        ),
    ],
)
def test_masks(simulator: Any, receiver: Any, mask: bytes, message: str | None) -> None:
    """A mask is a PNG with alpha, as large as the first reference."""
    receiver.pages |= {"/a.png": picture(), "/m.png": mask}
    task = edit(
        simulator,
        receiver.url + "/a.png",
        model="gpt-image-2",
        mask_url=receiver.url + "/m.png",
    )

    assert message == task.get("error", {}).get("message")
    # A mask is not billed.
    assert task.get("usage", {}).get("image_input_tokens", 1536) == 1536


def test_a_mask_alone_is_ignored(simulator: Any) -> None:
    """Without a reference nobody looks at it."""
    answer = simulator.submit(
        "a fox [[latency:0]]", model="gpt-image-2", mask_url="http://127.0.0.1:1/m.png"
    )

    assert ended(simulator, answer.json()["id"])["status"] == "completed"


@pytest.mark.parametrize("by", ["marker", "settings"])
def test_checked_before_the_answer(start_simulator: Any, receiver: Any, by: str) -> None:
    """A bad reference can also be a 400, with nothing created."""
    receiver.pages["/a.png"] = b"no picture"
    chosen = References.SUBMIT if by == "settings" else References.TASK
    simulator = start_simulator(SimulatorSettings(references=chosen, latency_median_s=0))
    prompt = "a fox [[references:submit]]" if by == "marker" else "a fox"
    answer = simulator.submit(prompt, image_urls=[receiver.url + "/a.png"])

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "image_urls")
    assert simulator.stats()["tasks"] == 0
    receiver.pages["/a.png"] = picture()
    assert simulator.submit(prompt, image_urls=[receiver.url + "/a.png"]).status_code == 200


def test_not_fetched_at_all(simulator: Any) -> None:
    """Links may be counted only."""
    answer = simulator.submit(
        "a fox [[latency:0]] [[references:ignored]]", image_urls=["http://127.0.0.1:1/a.png"]
    )

    assert ended(simulator, answer.json()["id"])["status"] == "completed"


@pytest.mark.parametrize(
    ("link", "status"),
    [
        ("data:image/png;base64," + base64.b64encode(picture()).decode(), "completed"),
        ("data:image/png;base64,%%", "failed"),
        ("data:image/png,plain", "failed"),
    ],
)
def test_data_urls_where_they_are_accepted(simulator: Any, link: str, status: str) -> None:
    """Whether EvoLink takes them is unknown; a marker makes it so."""
    prompt = "a fox [[latency:0]] [[rules:data-urls]]"
    answer = simulator.submit(prompt, image_urls=[link])

    assert ended(simulator, answer.json()["id"])["status"] == status


def test_a_waiting_task_is_pending_and_holds_its_price(simulator: Any, receiver: Any) -> None:
    """While references are fetched nothing proceeds, and a reset forgets it safely."""
    receiver.pages["/a.png"] = picture()
    task = simulator.submit("a fox [[latency:20]]", image_urls=[receiver.url + "/a.png"]).json()
    end_s = time.monotonic() + 60
    while simulator.stats()["references_read"] == 0:
        assert time.monotonic() < end_s
        time.sleep(0.01)
    early = simulator.client.get(f"/v1/tasks/{task['id']}").json()
    simulator.skipped_s = 21

    assert (early["status"], simulator.stats()["in_flight"]) == ("pending", 0)
    assert simulator.client.get(f"/v1/tasks/{task['id']}").json()["duration"] == 20

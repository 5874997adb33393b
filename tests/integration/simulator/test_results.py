from io import BytesIO
from typing import Any

import httpx
import pytest
from PIL import Image

from gateway.simulator.rules import Rule
from gateway.simulator.settings import SimulatorSettings


def opened(answer: httpx.Response) -> Image.Image:
    """Return the picture of an answer."""
    return Image.open(BytesIO(answer.content))


@pytest.mark.parametrize("status", [403, 404, 410, 429, 500, 503])
def test_statuses(simulator: Any, status: int) -> None:
    """The file host may refuse, for some times only."""
    link = simulator.finish(f"a fox [[result:{status}*1]]")["results"][0]

    assert [httpx.get(link).status_code for _ in range(2)] == [status, 200]


def test_each_picture_counts_for_itself(simulator: Any) -> None:
    """The first GET of every link fails."""
    links = simulator.finish("a fox [[result:500*1]]", model="gpt-image-2", n=2)["results"]

    assert [httpx.get(link).status_code for link in links * 2] == [500, 500, 200, 200]


@pytest.mark.parametrize("manner", ["drop", "cut"])
def test_broken_downloads(simulator: Any, manner: str) -> None:
    """The connection may break before or within the picture."""
    link = simulator.finish(f"a fox [[result:{manner}*1]]")["results"][0]
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(link)

    assert opened(httpx.get(link)).size == (1024, 1024)


def test_the_rest_of_a_cut_download(simulator: Any) -> None:
    """What is missing can be asked for alone, as long as the picture is the same one."""
    link = simulator.finish("a fox [[result:cut*1]]")["results"][0]
    with httpx.stream("GET", link) as cut, pytest.raises(httpx.RemoteProtocolError):
        cut.read()
    whole = httpx.get(link).content
    rest = {"range": "bytes=100-", "if-range": cut.headers["etag"]}
    part = httpx.get(link, headers=rest)

    assert (206, f"bytes 100-{len(whole) - 1}/{len(whole)}", whole[100:]) == (
        *(part.status_code, part.headers["content-range"]),
        part.content,
    )
    assert whole == httpx.get(link, headers=rest | {"if-range": '"another"'}).content
    assert 416 == httpx.get(link, headers={"range": f"bytes={len(whole)}-"}).status_code


@pytest.mark.parametrize("manner", ["truncated", "corrupt"])
def test_broken_pictures(simulator: Any, manner: str) -> None:
    """A file may look like a picture at its start only."""
    answer = httpx.get(simulator.finish(f"a fox [[result:{manner}]]")["results"][0])

    assert answer.content.startswith(b"\x89PNG")
    with pytest.raises((OSError, SyntaxError)):
        opened(answer).load()


@pytest.mark.parametrize(("manner", "length"), [("empty", 0), ("slow:0.2", None)])
def test_empty_and_slow_files(simulator: Any, manner: str, length: int | None) -> None:
    """Nothing at all, or everything in its own time."""
    answer = httpx.get(simulator.finish(f"a fox [[result:{manner}]]")["results"][0])

    if length is None:
        assert opened(answer).size == (1024, 1024)
        assert answer.elapsed.total_seconds() >= 0.15
    else:
        assert len(answer.content) == length


def test_other_size(simulator: Any) -> None:
    """Pixels may differ from what was asked."""
    answer = httpx.get(simulator.finish("a fox [[result:other-size]]")["results"][0])

    assert opened(answer).size == (1254, 1254)


def test_other_format(simulator: Any) -> None:
    """The name and the media type may not be those of the file."""
    answer = httpx.get(simulator.finish("a fox [[result:other-format]]")["results"][0])

    assert (opened(answer).format, answer.headers["content-type"]) == ("JPEG", "image/png")


def test_untyped(simulator: Any) -> None:
    """The media type may say nothing."""
    answer = httpx.get(simulator.finish("a fox [[result:untyped]]")["results"][0])

    assert answer.headers["content-type"] == "application/octet-stream"


@pytest.mark.parametrize(("marker", "mode"), [("", "RGBA"), ("[[result:opaque]]", "RGB")])
def test_transparency_is_unreliable(simulator: Any, marker: str, mode: str) -> None:
    """A transparent ground may come back opaque."""
    task = simulator.finish(f"a fox {marker}", model="gpt-image-2", background="transparent")

    assert opened(httpx.get(task["results"][0])).mode == mode


def test_links_to_other_hosts(simulator: Any) -> None:
    """Result links may lead anywhere, inner networks included."""
    task = simulator.finish("a fox [[links:http://169.254.169.254]]")

    assert task["results"][0].startswith("http://169.254.169.254/")


@pytest.mark.parametrize("status", [403, 404, 410])
def test_expired_links(start_simulator: Any, status: int) -> None:
    """A link dies before its task does, with a status that can be chosen."""
    simulator = start_simulator(
        SimulatorSettings(result_keep_s=100, expired_result_status=status, latency_median_s=1)
    )
    task = simulator.finish()
    ready = httpx.get(task["results"][0]).status_code
    simulator.skipped_s += 200

    assert (ready, httpx.get(task["results"][0]).status_code) == (200, status)
    assert simulator.client.get(f"/v1/tasks/{task['id']}").status_code == 200


def test_rules_of_results(start_simulator: Any) -> None:
    """The file host can be made to fail for all tasks."""
    simulator = start_simulator(rules=[Rule("result", "[[result:503]]", nth=frozenset({2}))])
    link = simulator.finish()["results"][0]

    assert [httpx.get(link).status_code for _ in range(3)] == [200, 503, 200]


def test_plain_pictures(start_simulator: Any) -> None:
    """Where it is asked for, every picture is grey and of the right size."""
    simulator = start_simulator(SimulatorSettings(plain_pictures=True))
    picture = opened(httpx.get(simulator.finish("a fox", size="1536x1024")["results"][0]))

    assert ((1536, 1024), [(1536 * 1024, (128, 128, 128))]) == (picture.size, picture.getcolors())

import base64
from io import BytesIO
from typing import Any

import httpx
import pytest
from PIL import Image

from gateway.simulator.rules import Rule
from gateway.simulator.settings import FilesErrors, SimulatorSettings

UPLOAD = "/api/v1/files/upload"


def picture(kind: str = "PNG", size: tuple[int, int] = (64, 48), mode: str = "RGB") -> bytes:
    """Return a small picture."""
    output = BytesIO()
    Image.new(mode, size).save(output, kind)
    return output.getvalue()


def upload(simulator: Any, content: bytes, name: str = "a.png", **fields: str) -> httpx.Response:
    """Upload as a form."""
    answer: httpx.Response = simulator.client.post(
        f"{UPLOAD}/stream", files={"file": (name, content)}, data=fields
    )
    return answer


def test_upload_is_answered_as_documented(simulator: Any) -> None:
    """A form gives the file a link that anybody can read."""
    content = picture()
    answer = upload(simulator, content, "fox.png", upload_path="photos", file_name="b.png")
    body = answer.json()
    told = body["data"]

    assert (answer.status_code, list(body)) == (200, ["code", "data", "msg", "success"])
    assert (body["code"], body["success"]) == (200, True)
    assert told["file_url"] == f"{simulator.url}/photos/b.png"
    assert (told["file_name"], told["original_name"]) == ("b.png", "fox.png")
    assert (told["file_size"], told["mime_type"]) == (len(content), "image/png")
    assert told["upload_path"] == "photos"
    assert told["upload_time"].endswith("+08:00")
    for link in (told["file_url"], told["download_url"]):
        served = httpx.get(link)
        assert (served.content, served.headers["content-type"]) == (content, "image/png")
    assert simulator.stats()["files"] == 1


@pytest.mark.parametrize("prefix", ["", "data:image/jpeg;base64,"])
def test_base64_upload(simulator: Any, prefix: str) -> None:
    """Plain base64 and data URLs are taken; a file without a name gets one."""
    content = picture("JPEG")
    body = {"base64_data": prefix + base64.b64encode(content).decode()}
    told = simulator.client.post(f"{UPLOAD}/base64", json=body).json()["data"]

    assert told["file_name"] == "file_1.jpg"
    assert httpx.get(told["file_url"]).content == content


def test_upload_from_a_link(simulator: Any, receiver: Any) -> None:
    """The service fetches the file itself."""
    receiver.pages["/deep/fox.webp"] = picture("WEBP")
    body = {"file_url": receiver.url + "/deep/fox.webp"}
    told = simulator.client.post(f"{UPLOAD}/url", json=body).json()["data"]

    assert (told["file_name"], told["mime_type"]) == ("fox.webp", "image/webp")


@pytest.mark.parametrize("link", ["/missing.png", ":1/closed.png"])
def test_upload_from_a_dead_link(simulator: Any, receiver: Any, link: str) -> None:
    """What cannot be fetched has a code of its own."""
    base = receiver.url if link.startswith("/") else "http://127.0.0.1"
    answer = simulator.client.post(f"{UPLOAD}/url", json={"file_url": base + link})

    assert (answer.status_code, answer.json()["code"]) == (400, 40004)


def test_binary_content_survives_a_form(simulator: Any) -> None:
    """Line breaks and dashes inside a file are content."""
    content = picture() + b"\r\n--\r\n\r\n--boundary\n\r" + bytes(range(256))
    told = upload(simulator, content).json()["data"]

    assert httpx.get(told["file_url"]).content == content


def test_names_that_need_quoting(simulator: Any) -> None:
    """A link leads to its file whatever the name."""
    content = picture()
    told = upload(simulator, content, file_name="rot?und #1 füchse.png").json()["data"]

    assert told["file_name"] == "rot?und #1 füchse.png"
    assert httpx.get(told["file_url"]).content == content


@pytest.mark.parametrize(
    ("path", "arguments", "status", "code"),
    [
        ("base64", {"json": {}}, 400, 400),
        ("base64", {"json": {"base64_data": "not base64"}}, 400, 400),
        ("base64", {"json": {"base64_data": base64.b64encode(b"%PDF").decode()}}, 400, 40002),
        ("base64", {"json": {"base64_data": 7}}, 400, 400),
        ("base64", {"content": b"{"}, 400, 400),
        ("base64", {"content": b"[]"}, 400, 400),
        ("url", {"json": {"file_url": "ftp://a.test/b"}}, 400, 400),
        ("stream", {"content": b"x"}, 400, 400),
        ("stream", {"files": {"other": b"x"}}, 400, 400),
        ("stream", {"files": {"file": b"no picture"}}, 400, 40002),
        ("stream", {"files": {"file": ("a.png", b"x" * 2000)}}, 413, 40001),
    ],
)
@pytest.mark.parametrize("style", list(FilesErrors))
def test_refused_uploads(
    start_simulator: Any,
    path: str,
    arguments: dict[str, Any],
    status: int,
    code: int,
    style: FilesErrors,
) -> None:
    """Both styles of saying no carry the same body."""
    simulator = start_simulator(SimulatorSettings(files_max_bytes=1999, files_errors=style))
    answer = simulator.client.post(f"{UPLOAD}/{path}", **arguments)
    body = answer.json()

    assert answer.status_code == (200 if style is FilesErrors.OK else status)
    assert (body["success"], body["code"]) == (False, code)
    assert isinstance(body["msg"], str)
    assert simulator.stats()["files"] == 0


@pytest.mark.parametrize(
    "fields", [{"upload_path": "../up"}, {"upload_path": "/up"}, {"file_name": "a/b.png"}]
)
def test_odd_paths_are_refused(simulator: Any, fields: dict[str, str]) -> None:
    """Nothing is stored outside."""
    assert upload(simulator, picture(), **fields).json()["code"] == 400


def test_missing_key(simulator: Any) -> None:
    """The service has the same key as all others, and another form of 401."""
    answer = httpx.get(f"{simulator.url}/api/v1/files/quota")

    assert (answer.status_code, answer.json()["code"]) == (401, 401)


def test_list_quota_and_delete(start_simulator: Any) -> None:
    """The newest file is first; a deleted one is gone from everywhere."""
    simulator = start_simulator(SimulatorSettings(files_quota=3))
    ids = [upload(simulator, picture(), f"{n}.png").json()["data"]["file_id"] for n in range(3)]
    full = upload(simulator, picture(), "3.png").json()["code"]
    page = simulator.client.get("/api/v1/files/list?page=2&pageSize=2").json()["data"]
    deleted = simulator.client.delete(f"/api/v1/files/{ids[0]}").json()
    again = simulator.client.delete(f"/api/v1/files/{ids[0]}")
    quota = simulator.client.get("/api/v1/files/quota").json()["data"]

    assert full == 40003
    assert (page["total"], [row["file_id"] for row in page["files"]]) == (3, ids[:1])
    assert (deleted["success"], again.status_code, again.json()["code"]) == (True, 404, 404)
    assert (quota["used_files"], quota["max_files"], quota["remain_files"]) == (2, 3, 1)
    assert httpx.get(f"{simulator.url}/0.png").status_code == 404
    assert httpx.get(f"{simulator.url}/1.png").status_code == 200


def test_same_name_replaces(start_simulator: Any) -> None:
    """A second file of a name takes the place of the first, also in the quota."""
    simulator = start_simulator(SimulatorSettings(files_quota=1))
    upload(simulator, picture("PNG"), "a.png")
    upload(simulator, picture("GIF"), "a.png")

    assert httpx.get(f"{simulator.url}/a.png").headers["content-type"] == "image/gif"


def test_files_expire(simulator: Any) -> None:
    """A file lives for 72 hours."""
    link = upload(simulator, picture()).json()["data"]["file_url"]
    simulator.skipped_s = 72 * 3600 - 10
    before = httpx.get(link).status_code
    simulator.skipped_s = 72 * 3600 + 10

    assert (before, httpx.get(link).status_code) == (200, 404)
    assert simulator.client.get("/api/v1/files/quota").json()["data"]["used_files"] == 0


@pytest.mark.parametrize("query", ["page=0", "pageSize=x"])
def test_odd_pages(simulator: Any, query: str) -> None:
    """Pages are counted from one."""
    assert simulator.client.get(f"/api/v1/files/list?{query}").status_code == 400


def test_rules_of_the_file_service(start_simulator: Any) -> None:
    """Uploads and the rest can be made to fail, without storing anything."""
    rules = [
        Rule("upload", "[[upload:storage_error]]", nth=frozenset({1})),
        Rule("upload", "[[upload:html]]", nth=frozenset({2})),
        Rule("upload", "[[upload:truncated]]", nth=frozenset({3})),
        Rule("files", "[[files:unsuccessful]]", first=1),
    ]
    simulator = start_simulator(rules=rules)
    answers = [upload(simulator, picture(), f"{n}.png") for n in range(4)]
    quotas = [simulator.client.get("/api/v1/files/quota").json() for _ in range(2)]

    assert [answer.status_code for answer in answers] == [500, 502, 200, 200]
    assert answers[0].json()["code"] == 50001
    with pytest.raises(ValueError, match=r"Expecting|Unterminated"):
        answers[2].json()
    assert [quota["success"] for quota in quotas] == [False, True]
    assert quotas[1]["data"]["used_files"] == 2

import orjson
import pytest
from starlette.responses import Response

from gateway.simulator.hangup import HangUp
from gateway.simulator.query_faults import FILE_FAULTS
from gateway.simulator.replies import AnyProblem, Manner, Reply, distorted, instead, read_reply
from gateway.simulator.requests import json_response


def refuse(problem: AnyProblem) -> Response:
    """Answer with the status of a problem."""
    return Response(status_code=problem.status)


@pytest.mark.parametrize(
    ("value", "reply"),
    [
        ("empty", Reply(Manner.EMPTY)),
        ("EMPTY*4", Reply(Manner.EMPTY, times=4)),
        ("late", Reply(Manner.LATE, seconds=3.0)),
        ("late:0", Reply(Manner.LATE, seconds=0.0)),
        ("slow:2.5*1", Reply(Manner.SLOW, seconds=2.5, times=1)),
        ("busy*2", Reply(Manner.REFUSE, problem=FILE_FAULTS["busy"], times=2)),
    ],
)
def test_reading(value: str, reply: Reply) -> None:
    """A reply is a manner or a code, perhaps with seconds, perhaps for some times."""
    assert reply == read_reply("upload", value, FILE_FAULTS)


@pytest.mark.parametrize("manner", [manner for manner in Manner if not Reply(manner).replaces])
def test_distortions_need_something_to_distort(manner: Manner) -> None:
    """They cannot stand for themselves."""
    with pytest.raises(ValueError, match="proper answer"):
        instead(Reply(manner), refuse)


@pytest.mark.parametrize(
    ("reply", "status", "content"),
    [
        (Reply(Manner.REFUSE, problem=FILE_FAULTS["busy"]), 503, b""),
        (Reply(Manner.EMPTY), 200, b""),
        (Reply(Manner.LATE), 201, b'{"a":1,"id":"x"}'),
        (Reply(Manner.TRUNCATED), 201, b'{"a":1,"'),
        (Reply(Manner.WITHOUT_ID), 201, b'{"a":1}'),
        (Reply(Manner.CUT), 201, b'{"a":1,"id":"x"}'),
        (Reply(Manner.SLOW), 201, b'{"a":1,"id":"x"}'),
    ],
)
async def test_distortions(reply: Reply, status: int, content: bytes) -> None:
    """Status and type of the proper answer stay where its body is played with."""
    proper = json_response({"id": "x", "a": 1}, 201)
    answer = await distorted(reply, proper, refuse)

    assert (status, content) == (answer.status_code, bytes(answer.body))


async def test_silence_and_pages() -> None:
    """Nothing of the proper answer is left."""
    proper = json_response({})

    assert isinstance(await distorted(Reply(Manner.DROP), proper, refuse), HangUp)
    assert 502 == (await distorted(Reply(Manner.HTML), proper, refuse)).status_code
    assert 503 == (await distorted(Reply(Manner.TEXT), proper, refuse)).status_code
    body = (await distorted(Reply(Manner.UNSUCCESSFUL), proper, refuse)).body
    assert orjson.loads(bytes(body))["success"] is False

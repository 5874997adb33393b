from dataclasses import replace

import pytest

from gateway.domain.accounts import ApiKey, Caller
from gateway.domain.errors import InvalidRequest
from gateway.domain.images import (
    ImageRequest,
    KeptReference,
    LinkedReference,
    PictureFormat,
    References,
)
from gateway.domain.task import Surface
from gateway.service.calls import MAX_KEY_CHARS, call_of
from gateway.tasks.interface import Call
from tests.support.factories import a_caller, a_team

PATH = "/v1/images/generations"
REQUEST = ImageRequest(model="gpt-image-1.5", prompt="a cat")


def _call(
    request: ImageRequest = REQUEST,
    *,
    caller: Caller | None = None,
    path: str = PATH,
    waiter: str = "req_1",
    retry_count: str = "",
    idempotency_key: str = "",
    detached: bool = False,
    surface: Surface = Surface.OPENAI,
) -> Call:
    return call_of(
        caller or a_caller(),
        path,
        request,
        waiter=waiter,
        retry_count=retry_count,
        idempotency_key=idempotency_key,
        detached=detached,
        base_url="http://gateway:8080/",
        surface=surface,
    )


def test_a_retry_is_the_same_call() -> None:
    """Who waits, and which retry it says it is, make no other call of it."""
    first, retry = _call(), _call(waiter="req_2", retry_count="2")

    assert first.fingerprint == retry.fingerprint
    assert ("req_2", 2) == (retry.waiter, retry.count)
    assert ("req_1", 0, "", False, True) == (
        *(first.waiter, first.count, first.idempotency),
        *(first.detached, first.joins),
    )


PICTURE = KeptReference("0a", PictureFormat.PNG, 1)

DIFFERENT = [
    {"model": "gpt-image-2"},
    {"prompt": "a dog"},
    {"n": 2},
    {"size": "1024x1024"},
    {"quality": "low"},
    {"background": "opaque"},
    {"output_format": "webp"},
    {"output_compression": 50},
    {"moderation": "low"},
    {"response_format": "url"},
    {"stream": True},
    {"partial_images": 2},
    {"user": "kim"},
    {"safety_identifier": "kim"},
    {"max_cost_microusd": 10_000},
    {"callback_url": "https://client.example/done"},
    {"references": References((PICTURE,))},
    {"references": References((replace(PICTURE, digest="0b"),))},
    {"references": References((PICTURE, PICTURE))},
    {"references": References((PICTURE,), mask=PICTURE)},
    {"references": References((LinkedReference("https://a.example/a.png"),))},
]


@pytest.mark.parametrize("change", DIFFERENT, ids=lambda change: next(iter(change)))
def test_another_parameter_makes_another_call(change: dict[str, object]) -> None:
    """Whatever the client may say differently, it is not given the other call's picture."""
    assert _call().fingerprint != _call(replace(REQUEST, **change)).fingerprint  # type: ignore[arg-type]


def test_a_link_is_the_same_link_whatever_it_gives() -> None:
    """A retry whose picture was fetched anew, and is another by now, is the same call."""
    first = replace(PICTURE, url="https://a.example/a.png")
    again = replace(first, digest="0c", size_bytes=9)
    calls = [_call(replace(REQUEST, references=References((each,)))) for each in (first, again)]

    assert calls[0].fingerprint == calls[1].fingerprint


def test_every_parameter_is_in_the_table_above() -> None:
    """A parameter that is added to calls is thought about here."""
    assert set(ImageRequest.__slots__) == {name for change in DIFFERENT for name in change}


def test_another_key_or_path_makes_another_call() -> None:
    """Two keys of a team never get each other's pictures, however alike they ask."""
    other = replace(a_caller(), key=ApiKey("web"))
    fingerprints = {
        call.fingerprint for call in (_call(), _call(caller=other), _call(path="/v1/images/edits"))
    }

    assert 3 == len(fingerprints)


def test_a_fingerprint_does_not_tell_what_was_asked() -> None:
    """It goes into keys of the store: it is a digest and nothing else."""
    fingerprint = _call().fingerprint

    assert (32, True) == (len(fingerprint), set(fingerprint) <= set("0123456789abcdef"))


@pytest.mark.parametrize(
    ("said", "count"),
    [
        *(("", 0), ("0", 0), ("1", 1), ("2", 2), ("100", 100)),
        # More than any SDK counts to, or nothing that counts.
        *(("101", 0), ("99999999999999999999", 0), ("-1", 0), ("1.5", 0), ("one", 0)),
        *((" 1", 0), ("\u0661", 0), ("\u00b2", 0), ("0001", 1)),
    ],
)
def test_which_retry_it_is(said: str, count: int) -> None:
    """What is no plain number of a retry says nothing, and is no error."""
    assert count == _call(retry_count=said).count


def test_idempotency_keys_belong_to_a_path() -> None:
    """The same key elsewhere is another key; what is kept of it is a digest."""
    here, there = _call(idempotency_key="k"), _call(idempotency_key="k", path="/v1/images/edits")

    assert here.idempotency == _call(idempotency_key="k", waiter="req_2").idempotency
    assert 3 == len({here.idempotency, there.idempotency, _call(idempotency_key="l").idempotency})
    assert 32 == len(here.idempotency)


def test_an_idempotency_key_is_beside_the_fingerprint() -> None:
    """Another body under the same key must be seen to be another."""
    assert _call().fingerprint == _call(idempotency_key="k").fingerprint


def test_idempotency_keys_have_a_length() -> None:
    """The longest that is allowed is taken; one more is refused in OpenAI's shape."""
    assert _call(idempotency_key="k" * MAX_KEY_CHARS).idempotency
    with pytest.raises(InvalidRequest) as refusal:
        _call(idempotency_key="k" * (MAX_KEY_CHARS + 1))

    error = refusal.value
    assert (None, "invalid_idempotency_key") == (error.param, error.code)
    assert "longer than 255 characters" in error.message


@pytest.mark.parametrize("joins", [True, False])
def test_teams_decide_whether_retries_are_joined(joins: bool) -> None:
    """It is a setting of the team."""
    caller = a_caller(replace(a_team(), joins_retries=joins))

    assert joins is _call(caller=caller).joins


@pytest.mark.parametrize("detached", [True, False])
def test_calls_that_do_not_wait_say_so(detached: bool) -> None:
    """It is told along with the call, and makes no other call of it."""
    call = _call(detached=detached)

    assert (detached, _call().fingerprint) == (call.detached, call.fingerprint)


def test_where_a_client_reaches_us_is_kept_for_its_callback_alone() -> None:
    """And whose API it spoke, always."""
    told = _call(
        replace(REQUEST, callback_url="https://client.example/done"), surface=Surface.EVOLINK
    )

    assert ("http://gateway:8080/", Surface.EVOLINK) == (told.base_url, told.surface)
    assert ("", Surface.OPENAI) == (_call().base_url, _call().surface)

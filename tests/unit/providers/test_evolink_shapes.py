from fractions import Fraction
from pathlib import Path

import orjson
import pytest

from gateway.domain.images import TokenUsage
from gateway.domain.task import FailureKind
from gateway.providers.evolink_shapes import (
    exact_number,
    is_task_id,
    read_balance,
    read_list,
    read_poll,
    read_submit,
)
from gateway.providers.interface import (
    Accepted,
    Balance,
    Failed,
    Finished,
    Listed,
    Missing,
    NoBalance,
    NoList,
    PollFailed,
    Rejected,
    Running,
    Unknown,
)
from gateway.providers.wire import Answer

FIXTURES = Path(__file__).parents[2] / "fixtures" / "upstream" / "evolink"
ID = "task-unified-1757156493-imcg5zqt"
LINK = "https://files.evolink.ai/a.png"
LIVE_LINK = (
    "https://files.evolink.ai/000BG2E93TVWN41W8S/images/2026/07/01/"
    "8469a02673764089ac146c605cdb8cb3_0.jpg"
)


def recorded(name: str, status: int = 200) -> Answer:
    """Return a recorded or documented answer as the wire hands it over."""
    return Answer(status, orjson.loads((FIXTURES / name).read_bytes()))


def task(**fields: object) -> Answer:
    """Return the answer to a poll of ID."""
    return Answer(200, {"id": ID, **fields})


def refusal(status: int, code: object = "some_code") -> Answer:
    """Return an error in the current envelope."""
    return Answer(status, {"error": {"code": code, "message": "why"}}, retry_after_s=7.0)


def test_the_recorded_live_answer_is_read_verbatim() -> None:
    """The one live recording (§4.2) gives its link, exact credits, tokens and duration."""
    outcome = read_poll(recorded("completed_live.json"), "task-unified-1782914404-w4fcqq0x")

    assert outcome == Finished(
        links=(LIVE_LINK,),
        usage=TokenUsage(text_input=57, image_output=1120),
        credits_used=Fraction(1783, 1000),
        duration_s=4.0,
        model="gemini-3.1-flash-lite-image",
    )


def test_the_documented_minimum_is_read() -> None:
    """A completed task without usage, duration or result_data (§4.3) is complete."""
    outcome = read_poll(recorded("completed_documented.json"), "task-unified-1756817821-4x3rx6ny")

    assert outcome == Finished(
        ("http://example.com/image.jpg",),
        usage=None,
        credits_used=None,
        model="gemini-3.1-flash-image-preview",
    )


def test_the_documented_create_answer_is_accepted() -> None:
    """Creating answers 200 with an id, an estimate and the reserved credits (§3)."""
    outcome = read_submit(recorded("created.json"))

    assert outcome == Accepted(ID, estimate_s=100.0, credits_reserved=Fraction(5, 2))


def test_the_documented_failure_is_moderation() -> None:
    """A failed task answers 200 and tells why in its body (§4.6), on one line for the log."""
    outcome = read_poll(recorded("failed_documented.json"), "task-unified-1772618027-cmeisy8h")

    assert outcome == Failed(
        FailureKind.MODERATION,
        "content_policy_violation: Content policy violation. "
        "Your request was blocked by safety filters...",
    )


def test_an_empty_balance_is_refused() -> None:
    """The first-party client's 402 (§9.3) means that our account there is empty."""
    outcome = read_submit(recorded("refused_402_balance.json", 402))

    assert outcome == Rejected(
        FailureKind.INSUFFICIENT_FUNDS,
        "HTTP 402 insufficient_quota: Insufficient account balance. (request id: req_q)",
    )


def test_a_passed_through_limit_is_refused() -> None:
    """An upstream's own 429 with an integer code and empty strings (§9.1) is a rate limit."""
    outcome = read_submit(recorded("refused_429_passthrough.json", 429))

    assert isinstance(outcome, Rejected)
    assert outcome.kind is FailureKind.RATE_LIMITED


@pytest.mark.parametrize(
    "body",
    [
        {"id": ID},
        {"id": ID, "status": "completed", "results": [LINK]},
        {"id": ID, "status": "failed", "error": {"code": "service_error", "message": "m"}},
        {"id": ID, "task_info": None, "usage": "none"},
        {"id": ID, "task_info": {"estimated_time": "long"}, "usage": {"credits_reserved": None}},
    ],
)
def test_an_id_is_all_that_acceptance_needs(body: object) -> None:
    """A 2xx with an id was created, whatever else it says."""
    assert read_submit(Answer(200, body)) == Accepted(ID)


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, None),
        Answer(200, {}),
        Answer(200, []),
        Answer(200, {"id": 17}),
        Answer(200, {"id": ""}),
        Answer(200, {"id": "../credits"}),
        Answer(200, {"error": {"code": "invalid_request", "message": "m"}}),
        Answer(204, None),
        Answer(302, None),
        Answer(302, {"error": {"code": "moved", "message": "m"}}),
        Answer(400, None),
        Answer(400, {"detail": "no envelope"}),
        Answer(404, None),
        refusal(408),
        refusal(409, "idempotency_conflict"),
        refusal(409, "paid_outcome_unknown"),
        refusal(500, "internal_error"),
        refusal(502, 502),
        refusal(503, "service_unavailable"),
        refusal(503, "no_available_channel"),
    ],
)
def test_whatever_does_not_prove_a_refusal_is_unknown(answer: Answer) -> None:
    """Design rule 3: only a readable 4xx other than 408 and 409 means that nothing was created."""
    assert isinstance(read_submit(answer), Unknown)


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 405, 413, 422, 429])
def test_a_readable_4xx_is_a_refusal(status: int) -> None:
    """A parsed 4xx error proves that nothing was created and carries the wait it asks for."""
    outcome = read_submit(refusal(status))

    assert isinstance(outcome, Rejected)
    assert (outcome.detail, outcome.retry_after_s) == (f"HTTP {status} some_code: why", 7.0)


def test_an_unknown_submit_says_what_came() -> None:
    """The operator reads the status and the code of an answer that decides nothing."""
    assert read_submit(refusal(503)) == Unknown("HTTP 503 some_code: why")


@pytest.mark.parametrize(
    ("fields", "links"),
    [
        ({"results": [LINK, "https://b"]}, (LINK, "https://b")),
        ({"results": [{"url": LINK}]}, (LINK,)),
        ({"results": [{"image_url": LINK}]}, (LINK,)),
        ({"results": [{"url": None, "image_url": LINK}]}, (LINK,)),
        ({"results": LINK}, (LINK,)),
        ({"results": {"url": LINK}}, (LINK,)),
        ({"results": [None, 3, "", {}, LINK]}, (LINK,)),
        ({"result_data": [{"url": LINK}]}, (LINK,)),
        ({"result_data": [{"result_id": "1", "image_url": LINK, "tags": ""}]}, (LINK,)),
        ({"result_data": {"url": LINK}}, (LINK,)),
        ({"results": [], "result_data": [{"url": LINK}]}, (LINK,)),
        ({"results": None, "result_data": {"image_url": LINK}}, (LINK,)),
        ({"results": [LINK], "result_data": [{"url": "https://b"}]}, (LINK,)),
        ({"results": []}, ()),
        ({"result_data": {"voice": "x"}}, ()),
        ({}, ()),
    ],
)
def test_links_are_found_in_every_shape(fields: dict[str, object], links: tuple[str, ...]) -> None:
    """Results are text or objects, one or many; result_data stands in for them (§4.4)."""
    outcome = read_poll(task(status="completed", **fields), ID)

    assert outcome == Finished(links=links, usage=None, credits_used=None)


@pytest.mark.parametrize(
    ("result_data", "prompt"),
    [
        ([{"url": LINK, "revised_prompt": "a red cat"}], "a red cat"),
        ([{"url": LINK}, {"actual_prompt": "a red cat"}], "a red cat"),
        ({"url": LINK, "revised_prompt": "a red cat"}, "a red cat"),
        ([{"url": LINK, "revised_prompt": None}, "x", None], ""),
        (None, ""),
    ],
)
def test_a_refined_prompt_is_read_where_it_is_told(result_data: object, prompt: str) -> None:
    """Whatever of the two names it has; it is not shown where outcomes are printed."""
    outcome = read_poll(task(status="completed", results=[LINK], result_data=result_data), ID)

    assert isinstance(outcome, Finished)
    assert prompt == outcome.revised_prompt
    assert "red cat" not in repr(outcome)


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        (
            {
                "text_input_tokens": 1,
                "text_cached_input_tokens": 2,
                "image_input_tokens": 3,
                "image_cached_input_tokens": 4,
                "image_output_tokens": 5,
                "text_output_tokens": 6,
                "total_tokens": 21,
            },
            TokenUsage(1, 2, 3, 4, 5, 6),
        ),
        ({"image_output_tokens": 5}, TokenUsage(image_output=5)),
        ({"credits_used": 1.5}, None),
        ({"image_output_tokens": -5}, None),
        ({"image_output_tokens": "5"}, None),
        ({"image_output_tokens": True}, None),
        ({"image_output_tokens": 5, "text_input_tokens": None}, None),
        ({"image_output_tokens": 10**12}, None),
        (None, None),
        ([], None),
    ],
)
def test_tokens_are_counted_or_not_told(usage: object, tokens: TokenUsage | None) -> None:
    """Token counts are taken as a whole: one that cannot be right spoils the others."""
    outcome = read_poll(task(status="completed", usage=usage), ID)

    assert isinstance(outcome, Finished)
    assert tokens == outcome.usage


@pytest.mark.parametrize(
    ("usage", "billed"),
    [
        ({"credits_used": 1.783}, Fraction("1.783")),
        ({"credits_used": 2}, Fraction(2)),
        ({"credits_used": 0}, Fraction(0)),
        ({"cost": {"credits": 30.31603, "usd": 0.4458, "cny": 3}}, Fraction("30.31603")),
        ({"credits_used": None, "cost": {"credits": 4}}, Fraction(4)),
        ({"credits_used": 3, "cost": {"credits": 4}}, Fraction(4)),
        ({"credits_used": 3, "cost": {"credits": 0}}, Fraction(0)),
        ({"credits_used": -1}, None),
        ({"cost": "free"}, None),
        ({}, None),
    ],
)
def test_credits_are_exact_or_not_told(usage: object, billed: Fraction | None) -> None:
    """What was billed is `cost.credits`, else `credits_used` (§14 row 7), to the last decimal."""
    outcome = read_poll(task(status="completed", usage=usage), ID)

    assert isinstance(outcome, Finished)
    assert billed == outcome.credits_used


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (b"0.1", Fraction(1, 10)),
        (b"24.25283", Fraction("24.25283")),
        (b"0.00001", Fraction(1, 100_000)),
        (b"583.5571", Fraction("583.5571")),
        (b"100000000.0001", Fraction("100000000.0001")),
        (b"1e-5", Fraction(1, 100_000)),
        (b"7", Fraction(7)),
        (b"1e300", None),
        (b"-0.1", None),
        (b"true", None),
        (b'"1.5"', None),
        (b"null", None),
    ],
)
def test_numbers_keep_the_decimals_they_were_written_with(
    text: bytes, number: Fraction | None
) -> None:
    """A number of a JSON body becomes the fraction that its digits say."""
    assert number == exact_number(orjson.loads(text))


@pytest.mark.parametrize(
    ("fields", "failure"),
    [
        ({"status": "failed"}, Failed(FailureKind.GENERATION_FAILED, "no reason given")),
        (
            {"status": "failed", "error": None},
            Failed(FailureKind.GENERATION_FAILED, "no reason given"),
        ),
        (
            {"status": "failed", "error": "it broke"},
            Failed(FailureKind.GENERATION_FAILED, "it broke"),
        ),
        (
            {"status": "FAILED", "error": {"code": "Image_Processing_Error", "message": "x"}},
            Failed(FailureKind.BAD_REFERENCE, "image_processing_error: x"),
        ),
        (
            {"status": "failed", "error": {"code": "request_cancelled", "message": "x"}},
            Failed(FailureKind.CANCELLED, "request_cancelled: x"),
        ),
        ({"status": "cancelled"}, Failed(FailureKind.CANCELLED, "request_cancelled")),
        ({"status": "canceled"}, Failed(FailureKind.CANCELLED, "request_cancelled")),
        (
            {"status": "cancelled", "error": {"code": "never_seen", "message": "x"}},
            Failed(FailureKind.CANCELLED, "never_seen: x"),
        ),
        (
            {"status": "cancelled", "error": {"code": "content_filter", "message": "x"}},
            Failed(FailureKind.MODERATION, "content_filter: x"),
        ),
    ],
)
def test_failures_are_read_in_every_shape(fields: dict[str, object], failure: Failed) -> None:
    """A failed or cancelled task may tell why as an object, as text, or not at all (§4.6)."""
    assert failure == read_poll(task(**fields), ID)


@pytest.mark.parametrize(
    ("fields", "progress"),
    [
        ({"status": "pending", "progress": 0}, 0),
        ({"status": "processing", "progress": 42}, 42),
        ({"status": "processing", "progress": 42.9}, 42),
        ({"status": "processing", "progress": 250}, 100),
        ({"status": "processing", "progress": "half"}, None),
        ({"status": "processing"}, None),
        ({"status": "reviewing"}, None),
        ({"status": "pending", "results": [LINK]}, None),
    ],
)
def test_everything_unfinished_goes_on(fields: dict[str, object], progress: int | None) -> None:
    """Pending, processing and statuses that nobody knows keep a task running (§4.1)."""
    assert read_poll(task(**fields), ID) == Running(progress)


def test_an_answer_without_an_id_is_about_the_task_that_was_asked_for() -> None:
    """The id of a poll's answer is not needed."""
    assert read_poll(Answer(200, {"status": "pending"}), ID) == Running()


@pytest.mark.parametrize("status", [404, 410])
def test_a_task_that_the_upstream_does_not_know_is_missing(status: int) -> None:
    """A readable 404 or 410 is the upstream's word about the task (§4.7)."""
    assert read_poll(refusal(status, "task_not_found"), ID) == Missing()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer(200, None), "HTTP 200 without a task"),
        (Answer(200, []), "HTTP 200 without a task"),
        (Answer(200, {"id": ID}), "HTTP 200 without a task"),
        (Answer(200, {"id": ID, "status": 1}), "HTTP 200 without a task"),
        (refusal(200), "HTTP 200 some_code: why without a task"),
        (
            Answer(200, {"id": "task-unified-1-other", "status": "completed"}),
            "the answer is about another task",
        ),
        (Answer(404, None), "HTTP 404"),
        (Answer(302, None), "HTTP 302"),
        (refusal(400, "invalid_task_id"), "HTTP 400 invalid_task_id: why"),
        (refusal(401, "unauthorized"), "HTTP 401 unauthorized: why"),
        (refusal(402, "quota_exceeded"), "HTTP 402 quota_exceeded: why"),
        (refusal(403, "permission_denied"), "HTTP 403 permission_denied: why"),
        (refusal(429), "HTTP 429 some_code: why"),
        (refusal(500, "internal_error"), "HTTP 500 internal_error: why"),
        (Answer(502, None), "HTTP 502"),
    ],
)
def test_a_question_that_failed_says_nothing_about_the_task(answer: Answer, reason: str) -> None:
    """Errors of the query and garbage leave the task as it was (§4.7)."""
    outcome = read_poll(answer, ID)

    assert isinstance(outcome, PollFailed)
    assert reason == outcome.reason


def test_a_failed_question_carries_the_wait_it_asks_for() -> None:
    """`Retry-After` of a refused poll reaches the engine."""
    assert read_poll(refusal(429), ID) == PollFailed("HTTP 429 some_code: why", retry_after_s=7.0)


@pytest.mark.parametrize(
    ("value", "usable"),
    [
        (ID, True),
        ("a", True),
        ("A1_b.c:d-e", True),
        ("x" * 128, True),
        ("x" * 129, False),
        ("", False),
        ("..", False),
        (".hidden", False),
        ("a/b", False),
        ("a?b", False),
        ("a%2fb", False),
        ("a b", False),
        ("a\n", False),
        ("ä", False),
        (7, False),
        (None, False),
    ],
)
def test_only_ids_that_stay_one_path_segment_are_used(value: object, usable: bool) -> None:
    """An id goes into a URL, so it may not carry anything that a URL would read."""
    assert usable is is_task_id(value)


LIVE_BALANCE = {
    "data": {
        "token": {
            "remaining_credits": 99416.4429,
            "unlimited_credits": False,
            "used_credits": 583.5571,
        },
        "user": {"remaining_credits": 1095.3996, "used_credits": 135.9048},
    },
    "message": "",
    "success": True,
}


@pytest.mark.parametrize(
    ("user", "token", "left"),
    [
        ({"remaining_credits": 1095.3996}, {"remaining_credits": 99416.4429}, 1095.3996),
        ({"remaining_credits": 1095.0}, {"remaining_credits": 3}, 3.0),
        ({"remaining_credits": -2.5}, {"remaining_credits": 3}, -2.5),
        # The figure of an unlimited key is a filler (§8).
        ({"remaining_credits": 5e6}, {"remaining_credits": 99, "unlimited_credits": True}, 5e6),
        ({"remaining_credits": "many"}, {"remaining_credits": True}, None),
        (None, None, None),
    ],
)
def test_read_balance(user: object, token: object, left: float | None) -> None:
    """What is left is the less of what the account and the key have."""
    body = LIVE_BALANCE | {"data": {"user": user, "token": token}}

    assert Balance(left) == read_balance(Answer(200, body))


def test_read_balance_as_documented() -> None:
    """The documented answer is read."""
    assert Balance(1095.3996) == read_balance(Answer(200, LIVE_BALANCE))


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (401, {"error": {"code": 401, "message": "bad key"}}, NoBalance),
        (200, {"success": False, "message": "no such account"}, NoBalance),
        (502, None, NoBalance),
        (302, None, NoBalance),
        # Asked too often by an account that is served.
        (429, {"error": {"code": "rate_limit_exceeded"}}, Balance),
        (200, None, Balance),
    ],
)
def test_an_account_that_is_not_served(status: int, body: object, outcome: type) -> None:
    """A refused key, a broken upstream and a refusal inside a 200 are told apart from a balance."""
    assert type(read_balance(Answer(status, body))) is outcome


def test_read_list() -> None:
    """Rows as documented (§5), a task's own name for its time, and rows that say too little."""
    rows: list[object] = [
        {"id": "a", "model": "gpt-image-2", "status": "completed", "created_at": 1790000000}
        | {"credits_used": 1.53, "has_results": True},
        {"id": "b", "created": 1790000001.5},
        {"id": 7, "created_at": 1790000000},
        {"id": "c"},
        None,
    ]
    body: object = {"object": "list", "total": 5, "data": rows}

    listed = (
        Listed("a", 1790000000, "gpt-image-2", "completed", Fraction("1.53")),
        Listed("b", 1790000001, "", "", None),
    )
    assert (listed, 5) == read_list(Answer(200, body))


@pytest.mark.parametrize(
    ("status", "body"), [(401, {"error": {"code": 401}}), (200, {"data": {}}), (404, None)]
)
def test_what_is_no_list(status: int, body: object) -> None:
    """The route is not documented: it may be gone, or shaped otherwise."""
    assert isinstance(read_list(Answer(status, body)), NoList)

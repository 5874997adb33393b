"""Stock `openai` clients: default retries, time-outs as short as impatient people set them."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from dataclasses import dataclass

import openai

from tests.chaos.plan import Plan, PlannedCall
from tests.support.gateway import TEAM_KEY

#: A call that is not over after this has hung: three tries at the longest patience, and pauses.
HUNG_AFTER_S = 120.0

#: What a client reports that has lost patience, or its connection, once too often.
TIMED_OUT, CUT_OFF, HUNG = "timed out", "cut off", "hung"


@dataclass(frozen=True, slots=True)
class Answer:
    """What one client got in the end: digests of its pictures, or an error in a few words."""

    call: PlannedCall
    pictures: tuple[str, ...] = ()
    error: str = ""


async def answers_of(plan: Plan, base_url: str) -> list[Answer]:
    """Make all calls of a plan, each by a client of its own, and return what came of them."""
    async with asyncio.TaskGroup() as group:
        waiting = [
            group.create_task(_answer(call, base_url))
            for call in plan.calls
            for _ in range(call.copies)
        ]
    return [task.result() for task in waiting]


async def _answer(call: PlannedCall, base_url: str) -> Answer:
    await asyncio.sleep(call.at_s)
    try:
        async with asyncio.timeout(HUNG_AFTER_S):
            return Answer(call, pictures=await _pictures(call, base_url))
    except TimeoutError:
        return Answer(call, error=HUNG)
    except openai.APITimeoutError:
        return Answer(call, error=TIMED_OUT)
    except openai.APIStatusError as error:
        return Answer(call, error=f"{error.status_code} {error.code}")
    except openai.APIConnectionError:
        return Answer(call, error=CUT_OFF)


async def _pictures(call: PlannedCall, base_url: str) -> tuple[str, ...]:
    headers = {"idempotency-key": call.label} if call.keyed else {}
    async with openai.AsyncOpenAI(
        base_url=base_url, api_key=TEAM_KEY, timeout=call.patience_s
    ) as client:
        answer = await client.images.generate(
            model="gpt-image-1.5",
            prompt=call.prompt,
            quality="low",
            size="1024x1024",
            n=call.pictures,
            extra_headers=headers,
        )
    return tuple(digest_of(image.b64_json or "") for image in answer.data or ())


def digest_of(b64_json: str) -> str:
    """Return what tells one picture from another."""
    return hashlib.sha256(base64.b64decode(b64_json)).hexdigest()

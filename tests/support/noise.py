"""Requests with random models, users, keys, sizes and paths.

Nearly all are refused cheaply, and as many as asked for order a picture that there is.
"""

from __future__ import annotations

import asyncio
import random
import string
from collections import Counter

import httpx


def _word(rng: random.Random) -> str:
    # Not a dot alone, which would be another path.
    return "w" + "".join(
        rng.choices(f"{string.ascii_letters}{string.digits}-_.", k=rng.randint(0, 30))
    )


def _order(rng: random.Random, key: str) -> tuple[str, str, str, dict[str, object]]:
    """Return a request for a cheap picture, of somebody who was never heard of."""
    fields = {"model": "gpt-image-1.5", "prompt": _word(rng), "user": _word(rng)}
    body: dict[str, object] = {**fields, "quality": "low", "size": "1024x1024"}
    return "POST", "/v1/images/generations", key, body


def _request(rng: random.Random, key: str) -> tuple[str, str, str, dict[str, object]]:
    """Return method, path, key and body of one request, most of them invented."""
    body: dict[str, object] = {
        "model": rng.choice([_word(rng), "gpt-image-1.5"]),
        "prompt": _word(rng),
        "user": _word(rng),
        "quality": rng.choice(["low", _word(rng)]),
        # No size below is made by any model, so that nothing is ever ordered.
        "size": rng.choice([_word(rng), f"{rng.randint(1, 99)}x{rng.randint(1, 99)}"]),
    }
    used = rng.choice([key, key, f"sk-{_word(rng)}"])
    path = rng.choice(
        [
            *["/v1/images/generations"] * 4,
            *["/v1/images/quotes"] * 2,
            "/v1/images/edits",
            "/evolink/v1/images/generations",
            f"/v1/{_word(rng)}",
            f"/v1/models/{_word(rng)}",
            f"/v1/images/tasks/{_word(rng)}",
            f"/v1/callbacks/{_word(rng)}/{_word(rng)}",
            f"/v1/assets/{_word(rng)}",
            f"/evolink/v1/tasks/{_word(rng)}",
            f"/admin/v1/teams/{_word(rng)}",
        ]
    )
    posts = "images/" in path and "tasks" not in path
    return ("POST" if posts else rng.choice(["GET", "DELETE"])), path, used, body


async def make_noise(
    root: str, key: str, count: int, *, seed: int, orders: float = 0.0, at_once: int = 8
) -> Counter[int]:
    """Send so many requests to a gateway; return how often each status was answered.

    The share `orders` of them is for a picture that is made, the others are refused.
    """
    rng, seen = random.Random(seed), Counter[int]()
    left = iter(range(count))

    async def caller(client: httpx.AsyncClient) -> None:
        for _ in left:
            order = rng.random() < orders
            method, path, used, body = (_order if order else _request)(rng, key)
            answer = await client.request(
                method,
                path,
                json=body if method == "POST" else None,
                headers={"authorization": f"Bearer {used}"},
            )
            seen[answer.status_code] += 1

    async with httpx.AsyncClient(base_url=root, timeout=60) as client, asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(caller(client))
    return seen

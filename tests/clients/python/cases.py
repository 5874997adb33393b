"""What clients from Python share: how cases are run and told, and what a picture is.

Standard library only: each client runs this in an environment of its own.
"""

from __future__ import annotations

import base64
import json
import os
import struct
import sys
import urllib.request
from collections.abc import Callable, Mapping

#: Where the gateway is, and whose key to use: the run's environment.
BASE_URL = os.environ["BASE_URL"]  # noqa: TID251 - a script of its own
API_KEY = os.environ["API_KEY"]  # noqa: TID251 - as above
#: A team that has no money, one that is over its limit, one that may not use the model.
POOR_KEY = os.environ["POOR_KEY"]  # noqa: TID251 - as above
HURRIED_KEY = os.environ["HURRIED_KEY"]  # noqa: TID251 - as above
OTHER_KEY = os.environ["OTHER_KEY"]  # noqa: TID251 - as above
#: What the upstream calls the picture of the retry, so that it can be counted there.
LABEL = os.environ["LABEL"]  # noqa: TID251 - as above

MODEL = "gpt-image-1.5"
#: A name of old times, which the gateway has as an alias.
OLD_MODEL = "dall-e-3"
PROMPT = "a small red fox"
#: Longer than this client, or the gateway, waits for one answer.
SLOW_PROMPT = f"{PROMPT} [[latency:10]][[label:{LABEL}]]"
BLOCKED_PROMPT = f"{PROMPT} [[fail:content_policy_violation]]"
FAILED_PROMPT = f"{PROMPT} [[empty-results]]"
DOWN_PROMPT = f"{PROMPT} [[submit:unauthorized]]"
WRONG_KEY = "sk-wrong-0123456789abcdef"

_PNG = b"\x89PNG\r\n\x1a\n"


def check_picture(content: bytes, size: tuple[int, int] = (1024, 1024)) -> None:
    """Raise AssertionError for what is no PNG of this size."""
    assert content.startswith(_PNG), content[:20]
    assert size == struct.unpack(">II", content[16:24])


def check_base64(text: str | None, size: tuple[int, int] = (1024, 1024)) -> None:
    """Raise AssertionError for what is no PNG of this size in base64."""
    assert text
    check_picture(base64.b64decode(text, validate=True), size)


def check_link(url: str | None, size: tuple[int, int] = (1024, 1024)) -> None:
    """Raise AssertionError when no PNG of this size is behind a link."""
    assert url
    with urllib.request.urlopen(url, timeout=30) as opened:  # noqa: S310 - of our own gateway
        check_picture(opened.read(), size)


def raised(kind: type[BaseException], call: Callable[[], object]) -> BaseException:
    """Return the error that a call raises; AssertionError when it is another one, or none."""
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was not raised")


def run(cases: Mapping[str, Callable[[], None]]) -> None:
    """Run the cases that are asked for; tell of each on a line of its own what was wrong."""
    for name in os.environ["CASES"].split(","):  # noqa: TID251 - as above
        play = cases[name]
        wrong = ""
        try:
            play()
        except Exception as error:  # noqa: BLE001 - told, and the next case is run
            wrong = f"{type(error).__name__}: {error}"[:500]
        sys.stdout.write(json.dumps({"case": name, "wrong": wrong}) + "\n")
        sys.stdout.flush()

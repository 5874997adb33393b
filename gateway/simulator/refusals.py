"""Write refusals: the envelope, the request's id and ``Retry-After``."""

import itertools
from dataclasses import replace
from email.utils import formatdate

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from gateway.simulator.clock import Clock
from gateway.simulator.errors import Problem, RefusedError, error_body
from gateway.simulator.replies import AnyProblem
from gateway.simulator.requests import authorized, json_response
from gateway.simulator.script import Script, Wait
from gateway.simulator.settings import RetryAfter, SimulatorSettings

_TOO_MANY_REQUESTS = 429


class Refusals:
    """Turn problems into answers as settings and scripts say."""

    def __init__(self, settings: SimulatorSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._numbers = itertools.count(1)

    def authorize(self, request: Request, problem: Problem) -> None:
        """Accept any bearer token; raise ``RefusedError`` with ``problem`` without one."""
        try:
            authorized(request)
        except PermissionError:
            raise RefusedError(problem) from None

    def answer(self, problem: AnyProblem, script: Script) -> Response:
        """Return the answer to a refused call."""
        if not isinstance(problem, Problem):
            raise TypeError("the file service writes its own refusals")
        envelope = script.envelope or self._settings.envelope
        request_id = f"req_{next(self._numbers):08d}"
        headers = {"x-request-id": request_id, **self._retry_after(problem, script)}
        if script.http_status is not None:
            problem = replace(problem, status=script.http_status)
        return json_response(error_body(problem, envelope, request_id), problem.status, headers)

    def plain(self, problem: AnyProblem) -> Response:
        """Return the answer of the file host, which has no envelope."""
        return PlainTextResponse(f"{problem.status} {problem.message}", problem.status)

    def _retry_after(self, problem: Problem, script: Script) -> dict[str, str]:
        wait = script.wait
        if wait is None:
            if problem.status != _TOO_MANY_REQUESTS:
                return {}
            wait = Wait(self._settings.retry_after)
        seconds = self._settings.retry_after_s if wait.seconds is None else wait.seconds
        match wait.form:
            case RetryAfter.SECONDS:
                return {"Retry-After": str(seconds)}
            case RetryAfter.DATE:
                return {"Retry-After": formatdate(self._clock.wall_s() + seconds, usegmt=True)}
            case RetryAfter.NONE:
                return {}

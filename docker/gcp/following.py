"""What was started, followed to its end."""

import time
from typing import Any

from documents import Request
from google_api import AnsweredError, Google, tell

from landuse.errors import FailureError, UserError

SUCCEEDED = ("JOB_STATE_SUCCEEDED", "SUCCESS")
FINISHED = (*SUCCEEDED, "JOB_STATE_PARTIALLY_SUCCEEDED", "JOB_STATE_FAILED", "JOB_STATE_CANCELLED", "JOB_STATE_EXPIRED",
            "FAILURE", "INTERNAL_ERROR", "TIMEOUT", "CANCELLED", "EXPIRED")  # fmt: skip


def follow(google: Google, requests: list[Request], key: str) -> None:
    """Say each new state of each, until all have ended.

    Args:
        google: whom to ask.
        requests: how each is asked after.
        key: of the state in an answer.

    Raises:
        FailureError: some did not succeed.
            Or the answers are not understood.
        UserError: it cannot be asked after any more.
    """
    states = [""] * len(requests)
    failed = []
    try:
        while not all(state in FINISHED for state in states):
            for number, request in enumerate(requests):
                if states[number] in FINISHED:
                    continue
                answer = _answer(google, request, key)
                if (state := str(answer[key])) != states[number]:
                    states[number] = state
                    tell(f"{time.strftime('%H:%M:%S')} {request.say}: {state}")
                if state in FINISHED and state not in SUCCEEDED:
                    failed.append(f"{request.say} ended as {state}: {_why(answer)}")
            if not all(state in FINISHED for state in states):
                time.sleep(google.pause_s)
    except (KeyboardInterrupt, UserError, FailureError):
        tell("It goes on without anybody who follows it; 'status' and 'logs' tell of it.")
        raise
    if failed:
        raise FailureError("; ".join(failed))


def _answer(google: Google, request: Request, key: str) -> dict[str, Any]:
    try:
        return google.look(request, key)
    except AnsweredError as error:
        raise google.explained(error, request) from error


def _why(answer: dict[str, Any]) -> str:
    error = answer.get("error")
    said = error.get("message") if isinstance(error, dict) else error
    return str(said or answer.get("statusDetail") or answer.get("failureInfo") or "see logs")

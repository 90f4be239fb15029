"""What was started, followed to its end."""

import time
from typing import Any

from documents import Request
from google_api import AnsweredError, Google, tell

from landuse.errors import FailureError, UserError

FINISHED = ("JOB_STATE_SUCCEEDED", "JOB_STATE_FAILED", "JOB_STATE_CANCELLED", "JOB_STATE_EXPIRED", "SUCCESS", "FAILURE",
            "INTERNAL_ERROR", "TIMEOUT", "CANCELLED", "EXPIRED")  # fmt: skip


def follow(google: Google, requests: list[Request], key: str) -> None:
    """Say each new state of each, until all have ended.

    Args:
        google: whom to ask.
        requests: how each is asked after.
        key: of the state in an answer.

    Raises:
        FailureError: some did not succeed.
        UserError: it cannot be asked after any more.
    """
    states = [""] * len(requests)
    failed = []
    try:
        while not all(state in FINISHED for state in states):
            for number, request in enumerate(requests):
                if states[number] in FINISHED:
                    continue
                answer = _answer(google, request)
                if (state := str(answer.get(key))) != states[number]:
                    states[number] = state
                    tell(f"{time.strftime('%H:%M:%S')} {request.say}: {state}")
                if state in FINISHED and not state.endswith(("SUCCEEDED", "SUCCESS")):
                    failed.append(f"{request.say} ended as {state}: {_why(answer)}")
            if not all(state in FINISHED for state in states):
                time.sleep(google.pause_s)
    except (KeyboardInterrupt, UserError):
        tell("It goes on without anybody who follows it; 'status' and 'logs' tell of it.")
        raise
    if failed:
        raise FailureError("; ".join(failed))


def _answer(google: Google, request: Request) -> dict[str, Any]:
    try:
        return google.look(request)
    except AnsweredError as error:
        raise google.explained(error, request) from error


def _why(answer: dict[str, Any]) -> str:
    said = answer.get("error", {}).get("message") or answer.get("statusDetail") or answer.get("failureInfo", "")
    return str(said or "see logs")

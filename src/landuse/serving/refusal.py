"""What the service says instead of an answer: a status of HTTP, a code for programs, a sentence for people."""

from typing import Any

CODES = {
    400: "bad_request",
    401: "unauthorized",
    404: "not_found",
    405: "method_not_allowed",
    408: "timeout",
    413: "too_large",
    415: "unsupported_media_type",
    422: "invalid_request",
    429: "busy",
    431: "too_large",
    500: "internal_error",
    503: "unavailable",
}


class Refusal(Exception):  # noqa: N818 (an answer, not a failure of the program)
    """A request, or one image of it, that gets no answer.

    Attributes:
        status: of HTTP.
        message: why and what to do, in a sentence or two; says nothing that the sender did not know.
        retry_after_s: when to try again, where that helps.
        code: for programs.
    """

    def __init__(self, status: int, message: str, retry_after_s: int | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.retry_after_s = status, message, retry_after_s
        self.code = code or CODES.get(status, "error")

    def describe(self, request_id: str | None = None) -> dict[str, Any]:
        """The JSON form: ``{"code": ..., "message": ...}``."""
        content = {"code": self.code, "message": self.message}
        return content if request_id is None else content | {"request_id": request_id}


def unusable(status: int, message: str) -> Refusal:
    """For an image that cannot be used, though the request is right."""
    return Refusal(status, message, code="unusable_image" if status == 422 else None)


def too_large(max_bytes: int) -> Refusal:
    """For a body that exceeds the limit."""
    return Refusal(413, f"A request may have {max_bytes:,} bytes at most: send fewer or smaller images.")


def busy() -> Refusal:
    """For a request that finds the queue full."""
    return Refusal(429, "More images are waiting than can be answered in time: try again in a second.", 1)

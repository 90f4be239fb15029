"""What a service does with requests for which there is no room: they are answered where they are read.

Under overload most of what a service does is to refuse, so refusing has to cost little: no task is made of such a
request and no line of the log, and its body is passed over. They are counted, and told of once a second.
"""

import asyncio
import json
import re
from collections.abc import Callable

from landuse.serving.front import SECURITY
from landuse.serving.logs import event
from landuse.serving.metrics import Metrics
from landuse.serving.refusal import busy

PREDICT, INFERENCE = "/predict", re.compile("/v2/models/.+/infer")  # what puts images into the queue
TOLD_EVERY_S = 1.0


class Shedding:
    """Gives the answer to a request that is refused unheard, or None: it is to be answered."""

    def __init__(self, is_full: Callable[[], bool], metrics: Metrics) -> None:
        """
        Args:
            is_full: whether images would be refused.
        """
        self._is_full, self._metrics = is_full, metrics
        refusal = busy()
        self._answers = {
            PREDICT: _response({"error": refusal.describe()}, refusal.retry_after_s),
            "/v2": _response({"error": refusal.message}, refusal.retry_after_s),
        }
        self._num_untold = 0

    def __call__(self, method: str, path: str) -> bytes | None:
        """The answer without its first line, which other headers may follow."""
        if method != "POST" or not self._is_full():
            return None
        if path != PREDICT and not INFERENCE.fullmatch(path):
            return None
        route = PREDICT if path == PREDICT else "/v2"
        self._metrics.shed(route)
        if not self._num_untold:
            asyncio.get_running_loop().call_later(TOLD_EVERY_S, self._tell)
        self._num_untold += 1
        return self._answers[route]

    def _tell(self) -> None:
        event("requests refused unheard", {"status": 429, "count": self._num_untold})
        self._num_untold = 0


def _response(content: object, retry_after_s: int | None) -> bytes:
    body = json.dumps(content).encode()
    head = f"content-type: application/json\r\ncontent-length: {len(body)}\r\nretry-after: {retry_after_s}\r\n"
    always = b"".join(name + b": " + value + b"\r\n" for name, value in SECURITY)
    return head.encode() + always + b"\r\n" + body

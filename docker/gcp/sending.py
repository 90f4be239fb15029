"""A document's requests, sent in turn or shown."""

import json
from typing import Any

from documents import PolicyChange, Request, Step, steps
from google_api import AnsweredError, Google, pause_s, tell, understood
from omegaconf import DictConfig

MISSING = 404


class Sender:
    """Does a document's steps, or shows them where it is a dry run."""

    def __init__(self, config: DictConfig, is_dry: bool) -> None:
        self.config = config
        self.google = None if is_dry else Google(str(config.project), pause_s())

    def run(self, document: str, data: bytes = b"") -> dict[str, Any]:
        """Every step in turn; the last answer.

        Raises:
            UserError: an API refuses; what was done before stays, and the command can be repeated.
            FailureError: what was begun has failed, or an answer is not understood.
        """
        answer: dict[str, Any] = {}
        for step in steps(document, self.config):
            if self.google is None:
                show(step)
            else:
                with understood(step):
                    answer = self._do(self.google, step, data)
        return answer

    def _do(self, google: Google, step: Step, data: bytes) -> dict[str, Any]:
        try:
            if isinstance(step, PolicyChange):
                tell(f"{step.say}: {'done' if google.change(step) else 'is so already'}")
                return {}
            if step.unless and self._is_there(google, step):
                tell(f"{step.say}: exists already")
                return {}
            answer = google.send(step, data if step.data else None)
            if step.wait:
                answer = google.finish(step, answer)
        except AnsweredError as error:
            if error.status == MISSING and isinstance(step, PolicyChange) and step.change == "shrink":
                tell(f"{step.say}: it is not there yet")
                return {}
            if error.status == 409 and isinstance(step, Request) and step.verb == "POST":
                tell(f"{step.say}: exists already")
                return {}
            raise google.explained(error, step) from error
        if step.keep:
            self.config[step.keep] = str(answer["name"]).rpartition("/")[2]
        tell(f"{step.say}: done")
        return answer

    def _is_there(self, google: Google, step: Request) -> bool:
        wanted = dict(step.unless or {})
        items = google.send(Request(step.say, "GET", step.url)).get(wanted.pop("list")) or []
        return any(wanted.items() <= item.items() for item in items)


def show(step: Step) -> None:
    """The exact requests on stdout. Of a policy: with the bindings that are added to whatever there is."""
    requests = [step]
    if isinstance(step, PolicyChange):
        example: dict[str, Any] = {"etag": "ETAG-AS-READ", "bindings": step.bindings if step.change == "remove" else []}
        requests = [step.read, *filter(None, [step.write(example)])]
    print(f"# {step.say}")
    for request in requests:
        assert isinstance(request, Request)
        print(f"{request.verb} {request.url}")
        if request.data:
            print("(the bytes of git archive --format=tar.gz HEAD)")
        if request.body is not None:
            print(json.dumps(request.body, indent=2))
    print()

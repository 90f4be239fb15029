"""A server of this machine that answers as Google's APIs do."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.cloud.script import PROJECT, Done

TOKEN = "ya29.a-token-that-must-never-be-shown"
Json = dict[str, Any]
Tool = Callable[..., Done]
SERVED = ["serve", PROJECT, "cloud.serve.model=results/x/export/int8"]
TRAIN = ["train", PROJECT, "cloud.name=first"]
SWEEP = ["sweep", PROJECT, "cloud.name=search", "cloud.workers=2", "name=cnn_tpe"]
JOB = {"name": "projects/1/locations/europe-west1/customJobs/77", "state": "JOB_STATE_PENDING"}


class QuietServer(ThreadingHTTPServer):
    """A client that has left is no event: without this its traceback would land in another test's stderr."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


class Apis:
    """Answers by method and a part of the path: the rules' in turn, the last of them again and again."""

    def __init__(self) -> None:
        self.rules: list[tuple[str, str, list[tuple[int, Json]]]] = []
        self.seen: list[tuple[str, str, Json]] = []
        self.tokens: list[tuple[int, Json]] = [(200, {"access_token": TOKEN, "expires_in": 3600})]
        apis = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                if self.path == "/token":
                    status, content = apis.tokens[0]
                else:
                    assert self.headers["authorization"] == f"Bearer {TOKEN}"
                    sent = json.loads(body) if body.startswith(b"{") else {}
                    apis.seen.append((self.command, self.path, sent))
                    status, content = apis.answer(self.command, self.path)
                data = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json; charset=UTF-8")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = QuietServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def on(self, verb: str, part: str, *answers: tuple[int, Json]) -> None:
        """Later rules go before earlier ones."""
        self.rules.insert(0, (verb, part, list(answers)))

    def answer(self, verb: str, path: str) -> tuple[int, Json]:
        for asked, part, answers in self.rules:
            if asked == verb and part in path:
                return answers.pop(0) if len(answers) > 1 else answers[0]
        return 200, {}

    def calls(self, verb: str, part: str) -> list[Json]:
        """Bodies of the requests so far."""
        return [body for method, path, body in self.seen if method == verb and part in path]


def error(status: int, message: str, name: str, *details: Json) -> tuple[int, Json]:
    """As google.rpc.Status is in JSON."""
    return status, {"error": {"code": status, "message": message, "status": name, "details": list(details)}}

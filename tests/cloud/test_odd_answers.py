"""Answers that are none of Google's, or not as published: a sentence, and nothing is taken for done."""

import importlib
import json
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
import requests

from landuse.cloud.bounded import bounded
from tests.cloud.apis import JOB, SERVED, SWEEP, TRAIN, Apis, Tool
from tests.cloud.conftest import QuietServer
from tests.cloud.script import PROJECT, ROOT, TOOL, tool

pytest.importorskip("google.auth", reason="needs the extra 'cloud'")
NOT_UNDERSTOOD = "answers in a form that is not understood"
PAGE = b"<html><body>Please log in to the network.</body></html>"
BUILD = ["build", PROJECT, "--no-wait"]


TEARDOWN = ["teardown", PROJECT, "--delete"]
PAGES = [(TEARDOWN, body) for body in (PAGE, b'{"name": ', b"[]", b"5", b'{"a":' * 100_000)]


@pytest.mark.parametrize(
    ("words", "body"), [*PAGES, *((words, PAGE) for words in (SERVED, TRAIN, ["status", PROJECT]))], ids=range(8)
)
def test_a_page_is_no_success(apis: Apis, cloud: Tool, words: list[str], body: bytes) -> None:
    for verb in ("GET", "POST", "PATCH", "DELETE"):
        apis.on(verb, "/", (200, body))  # type: ignore[arg-type]
    done = cloud(*words)
    assert done.status == 1 and done.err.splitlines()[-1].startswith("error: ") and NOT_UNDERSTOOD in done.err
    assert "deleted" not in done.err and ": done" not in done.err and "Traceback" not in done.err


def test_a_redirection_is_no_success(apis: Apis, cloud: Tool) -> None:
    apis.on("DELETE", "/", (302, {}))
    done = cloud("teardown", PROJECT, "--delete")
    assert done.status == 2 and "answers 302" in done.err and "deleted" not in done.err


@pytest.mark.parametrize("words", [TRAIN, SWEEP, BUILD], ids=["train", "sweep", "build"])
def test_what_was_perhaps_started_is_said(apis: Apis, cloud: Tool, words: list[str]) -> None:
    if words is BUILD and not (ROOT / ".git").exists():
        pytest.skip("needs the git checkout that is built")
    done = cloud(*words)  # which gets {} for everything
    assert done.status == 1 and NOT_UNDERSTOOD in done.err and "may have been started all the same" in done.err


POLICIES: list[Any] = [{"bindings": [{"members": ["a"]}]}, {"bindings": ["x"]}, {"bindings": 5}, {"version": "x"}]


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_a_policy_that_is_not_understood_is_not_written(apis: Apis, cloud: Tool, policy: Any) -> None:
    apis.on("GET", ":getIamPolicy", (200, policy))
    done = cloud(*SERVED, "cloud.serve.invokers=[user:a@x.org]")
    assert done.status == 1 and NOT_UNDERSTOOD in done.err
    assert not [sent for sent in apis.calls("POST", ":setIamPolicy") if policy.get("bindings")]


def test_bindings_that_are_null_are_none(apis: Apis, cloud: Tool) -> None:
    other = {"role": "roles/run.viewer", "members": None}
    apis.on("GET", ":getIamPolicy", (200, {"etag": "e", "bindings": None}), (200, {"etag": "e", "bindings": [other]}))
    assert cloud(*SERVED, "cloud.serve.invokers=[user:a@x.org]").status == 0


@pytest.mark.parametrize(
    "error", [None, "no", {"message": {"a": 1}, "details": "text"}, {"details": ["x"], "errors": 5}]
)
def test_a_refusal_of_any_form_is_one(apis: Apis, cloud: Tool, error: Any) -> None:
    apis.on("POST", "/customJobs", (403, {"error": error}))
    done = cloud(*TRAIN)
    assert done.status == 2 and "answers 403" in done.err and "Traceback" not in done.err


@pytest.mark.parametrize(
    "content", [{"entries": None}, {"entries": 5}, {"entries": ["x"]}, {"entries": [{"jsonPayload": 3}]}]
)
def test_logs_of_any_form(apis: Apis, cloud: Tool, content: Any) -> None:
    apis.on("POST", "/v2/entries:list", (200, content))
    done = cloud("logs", PROJECT)
    assert (done.status, NOT_UNDERSTOOD in done.err) == ((0, False) if content["entries"] is None else (1, True))


def test_answers_do_not_steer_the_terminal(apis: Apis, cloud: Tool) -> None:
    job = {**JOB, "displayName": "\x1b]0;x\x07", "state": "\x1b[2J", "createTime": "\x1b[31m"}
    apis.on("GET", "/customJobs", (200, {"customJobs": [job]}))
    apis.on("GET", "/services/landuse", (200, {"uri": "https://x\x1b[2J"}))
    for done in (cloud("status", PROJECT), cloud(*SERVED)):
        assert done.status == 0 and "\x1b" not in done.out + done.err and "\\x1b" in done.out
    apis.on("GET", "/customJobs", (200, {}))
    apis.on("POST", "/customJobs", (200, {**JOB, "name": "projects/1/\x1b[2J"}))
    done = cloud(*TRAIN, "--no-wait")
    assert done.status == 0 and "\x1b" not in done.err


@pytest.mark.parametrize(("state", "status"), [("PARTIALLY_SUCCEEDED", 1), ("SUCCEEDED", 0)])
def test_a_part_is_no_success(apis: Apis, cloud: Tool, state: str, status: int) -> None:
    apis.on("POST", "/customJobs", (200, JOB))
    apis.on("GET", "/customJobs/77", (200, {**JOB, "state": f"JOB_STATE_{state}"}))
    assert cloud(*TRAIN).status == status


def test_a_job_without_a_state_is_not_followed_for_ever(
    apis: Apis, cloud: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.import_module("google_api"), "LONGEST_SILENCE_S", 0.05)
    apis.on("POST", "/customJobs", (200, JOB))
    apis.on("GET", "/customJobs/77", (200, {}))
    done = cloud(*TRAIN)
    assert done.status == 1 and NOT_UNDERSTOOD in done.err and "It goes on without anybody" in done.err


def test_an_odd_pause_is_asked_for(apis: Apis, cloud: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Digits that are no number."""
    once = importlib.import_module("google_api").Google._once
    answers: list[requests.Response] = []

    def busy(self: object, request: object, data: bytes | None) -> requests.Response:
        if answers:
            return once(self, request, data)  # type: ignore[no-any-return]
        answers.append(requests.Response())
        answers[0].status_code, answers[0].headers["retry-after"] = 429, "²"
        return answers[0]

    monkeypatch.setattr(importlib.import_module("google_api").Google, "_once", busy)
    assert cloud("status", PROJECT).status == 0 and answers


@pytest.fixture
def dripping() -> Any:
    """A server whose answer never ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            piece, pause = (b"x" * 65536, 0.0) if self.path == "/huge" else (b" ", 0.02)
            while True:
                self.wfile.write(piece)
                self.wfile.flush()
                time.sleep(pause)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = QuietServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(("path", "said"), [("drip", "no whole answer"), ("huge", "more than 1 MB")])
def test_an_answer_without_an_end_ends(dripping: str, path: str, said: str) -> None:
    within_s = 0.3 if path == "drip" else 30.0
    with pytest.raises(requests.RequestException, match=said):
        bounded(lambda: requests.get(f"{dripping}/{path}", stream=True, timeout=5), within_s, 1 << 20)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([*TRAIN, "--dryrun"], "did you mean --dry-run?"),
        ([*TRAIN, "--delete"], "'train' has no flag --delete"),
        (["teardown", PROJECT, "--no-wait"], "has no flag --no-wait"),
        ([*TRAIN, "???"], "no override"),
        ([*SERVED, "cloud.serve.invokers=allUsers"], "is not a list"),
        ([*SERVED, "cloud.serve.invokers=null"], "is not a list"),
        ([*SERVED, "cloud.serve.invokers=[allUsers,5]"], "is not a list of texts"),
        ([*SERVED, "cloud.serve={invokers: allUsers}"], "is given by its keys"),
        ([*TRAIN, "cloud.accounts.train=null"], "needs a value"),
        ([*TRAIN, "cloud.accounts.train=me"], "is not a service account's address"),
        ([*TRAIN, "cloud.region=null"], "needs a value"),
        ([*TRAIN, "cloud.upload_every_s=0"], "is not from 1 to 86400 seconds"),
        ([*TRAIN, "cloud.disk_gb=-5"], "GB"),
        (["setup", PROJECT, "cloud.budget.units=0"], "is not from 1"),
        ([*SWEEP, "cloud.workers=null"], "is not a whole number"),
        ([*TRAIN, "data=ucmercd"], "Nearest: ucmerced"),
        ([*SWEEP, "trainer.epoch=5"], "Nearest: trainer.epochs"),
        ([*SWEEP, "cloud.workers='4'"], "is not a whole number"),
        ([*SWEEP, "storage=postgresql://me:pw@h/db"], "cloud.database_secret"),
        ([*SWEEP, "++storage=postgresql://me:pw@h/db"], "cloud.database_secret"),
    ],
)
def test_a_mistake_sends_nothing(apis: Apis, cloud: Tool, words: list[str], said: str) -> None:
    done = cloud(*words)
    assert done.status == 2 and said in done.err and done.err.count("\n") == 1 and "pw@h" not in done.err
    assert not apis.seen


def test_variables_of_another_form(cloud: Tool) -> None:
    for value in ("x", "nan"):
        assert "LANDUSE_CLOUD_PAUSE_S" in cloud("status", PROJECT, LANDUSE_CLOUD_PAUSE_S=value).err
    done = cloud("status", PROJECT, LANDUSE_CLOUD_ENDPOINT="http://[::1")
    assert done.status == 2 and "is no address" in done.err


def test_nulls_are_left_out() -> None:
    done = tool(*TRAIN, "cloud.network=null", "cloud.wandb_secret=null", "--dry-run")
    body = json.loads(done.out[done.out.index("{") :])
    assert "network" not in body["jobSpec"] and "None" not in done.out and "null" not in done.out


@pytest.mark.skipif(sys.platform == "win32", reason="needs bash")
def test_a_reader_who_has_seen_enough() -> None:
    command = f"'{sys.executable}' '{TOOL}' setup {PROJECT} --dry-run | head -c 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout == "#" and not done.stderr

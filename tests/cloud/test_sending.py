"""What docker/gcp/cloud.py does with the APIs' answers, sent to a server of this machine that answers as they do."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from tests.cloud.conftest import EMAIL, TOKEN, Checkout, QuietServer
from tests.cloud.script import PROJECT, Done, tool

pytest.importorskip("google.auth", reason="needs the extra 'cloud'")
Json = dict[str, Any]
SERVED = ["serve", PROJECT, "cloud.serve.model=results/x/export/int8"]
TRAIN = ["train", PROJECT, "cloud.name=first"]
JOB = {"name": "projects/1/locations/europe-west1/customJobs/77", "state": "JOB_STATE_PENDING"}


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
                data = json.dumps(content).encode()
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


@pytest.fixture
def apis() -> Iterator[Apis]:
    started = Apis()
    started.on("GET", "/v3/projects/my-project", (200, {"name": "projects/123", "projectId": "my-project"}))
    yield started
    started.server.shutdown()
    started.server.server_close()


Tool = Callable[..., Done]


@pytest.fixture
def cloud(apis: Apis, checkout: Checkout) -> Tool:
    """The script with an account, asking the server of this machine."""
    key = checkout.file("key.json", checkout.key(apis.url))

    def run(*words: str, **environment: str) -> Done:
        return tool(
            *words,
            **{
                "GOOGLE_APPLICATION_CREDENTIALS": str(key), "LANDUSE_CLOUD_ENDPOINT": apis.url,
                "LANDUSE_CLOUD_PAUSE_S": "0.01",
            }
            | environment,
        )  # fmt: skip

    return run


def error(status: int, message: str, name: str, *details: Json) -> tuple[int, Json]:
    """As google.rpc.Status is in JSON."""
    return status, {"error": {"code": status, "message": message, "status": name, "details": list(details)}}


def info(reason: str, **metadata: str) -> Json:
    domain = "googleapis.com"
    return {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": reason,
        "domain": domain,
        "metadata": metadata,
    }


def test_a_training_is_followed_to_its_end(apis: Apis, cloud: Tool) -> None:
    states = ["JOB_STATE_PENDING", "JOB_STATE_RUNNING", "JOB_STATE_RUNNING", "JOB_STATE_SUCCEEDED"]
    apis.on("POST", "/customJobs", (200, JOB))
    apis.on("GET", "/customJobs/77", *[(200, {**JOB, "state": state}) for state in states])
    done = cloud(*TRAIN, "model=resnet18")
    assert done.status == 0 and done.out == "gs://my-project-landuse/results/first\n"
    assert done.err.count("JOB_STATE_RUNNING") == 1 and "cloud.name=first" in done.err
    [sent] = apis.calls("POST", "/customJobs")
    assert sent["jobSpec"]["workerPoolSpecs"][0]["containerSpec"]["args"][-1] == "model=resnet18"


def test_a_training_that_fails_says_why(apis: Apis, cloud: Tool) -> None:
    failed = {**JOB, "state": "JOB_STATE_FAILED", "error": {"code": 8, "message": "CustomJob quota exceeded"}}
    apis.on("POST", "/customJobs", (200, JOB))
    apis.on("GET", "/customJobs/77", (200, failed))
    done = cloud(*TRAIN)
    assert done.status == 1 and "JOB_STATE_FAILED: CustomJob quota exceeded" in done.err and not done.out


def test_nobody_waits_where_nobody_wants_to(apis: Apis, cloud: Tool) -> None:
    apis.on("POST", "/customJobs", (200, JOB))
    assert cloud(*TRAIN, "--no-wait").status == 0
    assert not apis.calls("GET", "/customJobs/77")


def test_a_deployment_is_waited_for(apis: Apis, cloud: Tool) -> None:
    operation = {"name": "projects/my-project/locations/europe-west1/operations/op1"}
    apis.on("PATCH", "/services/landuse", (200, operation))
    apis.on("GET", "/v2/" + operation["name"], (200, operation), (200, {**operation, "done": True, "response": {}}))
    apis.on("GET", "/services/landuse", (200, {"uri": "https://landuse-x.a.run.app"}))
    apis.on("GET", "/services/landuse:getIamPolicy", (200, {"etag": "e"}))
    done = cloud(*SERVED)
    assert done.status == 0 and done.out == "https://landuse-x.a.run.app\n"
    assert len(apis.calls("GET", "/operations/op1")) == 2
    assert not apis.calls("POST", "setIamPolicy")  # there was nobody, and nobody is to be


def test_a_deployment_that_fails_says_why(apis: Apis, cloud: Tool) -> None:
    failed = {
        "name": "projects/p/locations/l/operations/op1",
        "done": True,
        "error": {"code": 9, "message": "no /readyz"},
    }
    apis.on("PATCH", "/services/landuse", (200, failed))
    done = cloud(*SERVED)
    assert done.status == 1 and "no /readyz" in done.err


def test_who_may_no_longer_call_it_is_taken_out(apis: Apis, cloud: Tool) -> None:
    other = {"role": "roles/run.viewer", "members": ["user:b@example.org"]}
    policy = {"etag": "e1", "bindings": [{"role": "roles/run.invoker", "members": ["allUsers"]}, other]}
    apis.on("GET", ":getIamPolicy", (200, policy))
    assert cloud(*SERVED).status == 0
    [sent] = apis.calls("POST", ":setIamPolicy")
    assert sent["policy"]["bindings"] == [other] and sent["policy"]["etag"] == "e1"


def test_setup_leaves_what_is_there(apis: Apis, cloud: Tool) -> None:
    exists = error(409, "Requested entity already exists", "ALREADY_EXISTS")
    for part in (
        "/serviceAccounts",
        "/repositories",
        "/storage/v1/b",
        "/secrets",
        "/workloadIdentityPools",
        "/triggers",
    ):
        apis.on("POST", part, exists)
    conditional = {"role": "roles/logging.logWriter", "members": ["user:b@x.org"], "condition": {"expression": "true"}}
    mine = {"role": "roles/owner", "members": ["user:a@x.org"]}
    before = {"version": 3, "etag": "e1", "bindings": [mine, conditional]}
    for verb, part in (("POST", ":getIamPolicy"), ("GET", ":getIamPolicy"), ("GET", "/iam?")):
        apis.on(verb, part, (200, before))
    apis.on("POST", ":setIamPolicy", (200, {}))
    apis.on("GET", "/budgets", (200, {"budgets": [{"displayName": "other"}, {"displayName": "landuse"}]}))
    done = cloud("setup", PROJECT, "cloud.github=me/landuse", "cloud.budget.account=012345-6789AB-CDEF01")
    assert done.status == 0, done.err
    assert done.err.count("exists already") == 14 and not apis.calls("POST", "/budgets")
    written = apis.calls("POST", "/v3/projects/my-project:setIamPolicy")[0]["policy"]
    assert written["etag"] == "e1" and written["version"] == 3 and written["bindings"][:2] == [mine, conditional]
    [trusted] = [
        sent["policy"]["bindings"][-1]["members"] for sent in apis.calls("POST", "landuse-github@my-project")
        if "policy" in sent
    ]  # fmt: skip
    assert "projects/123/" in trusted[0]  # which was asked for

    after = {**before, "bindings": [*written["bindings"]]}
    apis.on("POST", "/v3/projects/my-project:getIamPolicy", (200, after))
    count = len(apis.calls("POST", "/v3/projects/my-project:setIamPolicy"))
    again = cloud("setup", PROJECT)
    assert again.status == 0 and len(apis.calls("POST", "/v3/projects/my-project:setIamPolicy")) == count


def test_a_policy_that_another_wrote_meanwhile_is_read_again(apis: Apis, cloud: Tool) -> None:
    conflict = error(409, "There were concurrent policy changes.", "ABORTED")
    apis.on("GET", ":getIamPolicy", (200, {"etag": "old"}), (200, {"etag": "new"}))
    apis.on("POST", ":setIamPolicy", conflict, (200, {}))
    assert cloud(*SERVED, "cloud.serve.invokers=[user:b@x.org]").status == 0
    assert [sent["policy"]["etag"] for sent in apis.calls("POST", ":setIamPolicy")] == ["old", "new"]


MEMBER = f"--member=serviceAccount:{EMAIL}"
DISABLED = "Vertex AI API has not been used in project 123 before or it is disabled."
ACT_AS = "You do not have permission to act as service_account: landuse-train@my-project.iam.gserviceaccount.com"
FAULTS = {
    "API disabled": (
        error(403, DISABLED, "PERMISSION_DENIED", info("SERVICE_DISABLED", service="aiplatform.googleapis.com")),
        "gcloud services enable aiplatform.googleapis.com --project=my-project",
    ),
    "permission": (
        error(
            403, "Permission 'aiplatform.customJobs.create' denied on resource", "PERMISSION_DENIED",
            info("IAM_PERMISSION_DENIED", permission="aiplatform.customJobs.create"),
        ),
        f"gcloud projects add-iam-policy-binding my-project {MEMBER} --role=roles/aiplatform.user",
    ),
    "act as": (
        error(403, ACT_AS, "PERMISSION_DENIED"),
        "gcloud iam service-accounts add-iam-policy-binding landuse-train@my-project.iam.gserviceaccount.com "
        f"{MEMBER} --role=roles/iam.serviceAccountUser",
    ),
    "no reason": (error(403, "Forbidden", "PERMISSION_DENIED"), "--role=roles/aiplatform.user"),
    "the older form": (
        (403, {"error": {"code": 403, "message": "Off", "errors": [{"reason": "accessNotConfigured"}]}}),
        "gcloud services enable aiplatform.googleapis.com",
    ),
    "billing": (
        error(403, "This API method requires billing to be enabled.", "PERMISSION_DENIED", info("BILLING_DISABLED")),
        "gcloud billing projects link my-project",
    ),
    "scope": (
        error(403, "Insufficient scopes.", "PERMISSION_DENIED", info("ACCESS_TOKEN_SCOPE_INSUFFICIENT")),
        "--scopes=https://www.googleapis.com/auth/cloud-platform",
    ),
    "quota project": (
        error(403, "Caller does not have required permission", "PERMISSION_DENIED", info("USER_PROJECT_DENIED")),
        "set-quota-project my-project",
    ),
    "organisation": (
        error(400, "Constraint constraints/gcp.resourceLocations violated", "FAILED_PRECONDITION"),
        "A policy of the organisation forbids it",
    ),
    "quota": (
        error(429, "Quota exceeded: custom_model_training_nvidia_l4_gpus", "RESOURCE_EXHAUSTED"), "ask for more",
    ),
    "token": (error(401, "Request had invalid authentication credentials.", "UNAUTHENTICATED"), "gcloud auth"),
    "place": (error(404, "Requested entity was not found.", "NOT_FOUND"), "cloud.region"),
    "GitHub": (error(400, "Repository mapping does not exist. Please", "FAILED_PRECONDITION"), "connect?project="),
    "value": (error(400, "Machine type is not supported.", "INVALID_ARGUMENT"), "--dry-run shows the request"),
    "trouble of theirs": (error(500, "Internal error", "INTERNAL"), "Try again in a few minutes"),
    "no JSON": ((403, {}), "--role=roles/aiplatform.user"),
}  # fmt: skip


@pytest.mark.parametrize(("answer", "cure"), FAULTS.values(), ids=FAULTS)
def test_a_refusal_is_a_sentence_with_its_cure(apis: Apis, cloud: Tool, answer: tuple[int, Json], cure: str) -> None:
    apis.on("POST", "/customJobs", answer)
    done = cloud(*TRAIN)
    assert done.status == 2 and done.err.count("\n") == 1 and done.err.startswith("error: start the training first")
    assert cure in done.err and TOKEN not in done.err


@pytest.mark.parametrize("status", [429, 503])
def test_what_may_pass_is_tried_again(apis: Apis, cloud: Tool, status: int) -> None:
    apis.on("POST", "/customJobs", error(status, "Try later.", "UNAVAILABLE"), (503, {}), (200, JOB))
    assert cloud(*TRAIN, "--no-wait").status == 0
    assert len(apis.calls("POST", "/customJobs")) == 3


def test_expired_credentials(apis: Apis, cloud: Tool) -> None:
    apis.tokens = [(400, {"error": "invalid_grant", "error_description": "Invalid JWT Signature."})]
    done = cloud(*TRAIN)
    assert done.status == 2 and done.err.count("\n") == 1 and "gcloud auth application-default login" in done.err


def test_no_credentials(cloud: Tool) -> None:
    done = cloud(*TRAIN, GOOGLE_APPLICATION_CREDENTIALS="")
    assert done.status == 2 and done.err.startswith("error: No credentials")
    done = cloud(*TRAIN, GOOGLE_APPLICATION_CREDENTIALS="/no/such/key.json")
    assert done.status == 2 and "/no/such/key.json" in done.err and "does not exist" in done.err


def test_no_network(cloud: Tool, checkout: Checkout) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{closed.getsockname()[1]}"
    began = time.monotonic()
    done = cloud(*TRAIN, LANDUSE_CLOUD_ENDPOINT=nowhere)
    assert done.status == 2 and "No answer from europe-west1-aiplatform.googleapis.com" in done.err
    key = checkout.file("other.json", checkout.key(nowhere))
    done = cloud(*TRAIN, GOOGLE_APPLICATION_CREDENTIALS=str(key))
    assert done.status == 2 and done.err.count("\n") == 1 and "check the network connection" in done.err
    assert time.monotonic() - began < 60  # it does not hang


def test_a_token_goes_to_no_plain_http(apis: Apis, cloud: Tool) -> None:
    done = cloud(*TRAIN, LANDUSE_CLOUD_ENDPOINT="http://example.org")
    assert done.status == 2 and "must begin with https" in done.err and not apis.seen


def test_teardown_only_looks_unless_it_is_told(apis: Apis, cloud: Tool) -> None:
    done = cloud("teardown", PROJECT)
    assert done.status == 0 and {verb for verb, _, _ in apis.seen} == {"GET"}
    assert "would be deleted" in done.err and "Nothing was deleted" in done.err


def test_teardown_goes_past_what_is_gone(apis: Apis, cloud: Tool) -> None:
    account = "serviceAccount:landuse-train@my-project.iam.gserviceaccount.com"
    other = {"role": "roles/owner", "members": ["user:a@x.org"]}
    rights = {"role": "roles/logging.logWriter", "members": [account, "user:a@x.org"]}
    apis.on("POST", ":getIamPolicy", (200, {"etag": "e", "bindings": [other, rights]}))
    apis.on("DELETE", "/triggers/landuse-main", error(404, "not found", "NOT_FOUND"))
    apis.on("DELETE", "/storage/v1/b/", error(409, "The bucket you tried to delete is not empty.", "CONFLICT"))
    done = cloud("teardown", PROJECT, "--delete")
    assert done.status == 0, done.err
    assert "main: not there" in done.err and "kept (The bucket you tried to delete is not empty.)" in done.err
    [sent] = apis.calls("POST", ":setIamPolicy")
    assert sent["policy"]["bindings"] == [other, {**rights, "members": ["user:a@x.org"]}]


def test_status_and_logs(apis: Apis, cloud: Tool) -> None:
    apis.on(
        "GET",
        "/customJobs",
        (200, {"customJobs": [{**JOB, "displayName": "first", "createTime": "2026-01-02T03:04:05Z"}]}),
    )
    apis.on("GET", "/services/landuse", error(404, "not found", "NOT_FOUND"))
    done = cloud("status", PROJECT)
    assert done.status == 0 and "2026-01-02T03:04:05  JOB_STATE_PENDING  first" in done.out
    entry = {"timestamp": "2026-01-02T03:04:06Z", "jsonPayload": {"message": "epoch 1/2: \x1b[31mloss"}}
    apis.on("POST", "/v2/entries:list", (200, {"entries": [entry]}))
    done = cloud("logs", PROJECT, "cloud.name=first")
    assert done.out == "2026-01-02T03:04:06 epoch 1/2: \\x1b[31mloss\n"  # a log cannot steer the terminal
    assert 'job_id="77"' in apis.calls("POST", "/v2/entries:list")[0]["filter"]


def test_a_build_uploads_the_sources(apis: Apis, cloud: Tool) -> None:
    if not (Path(__file__).parents[2] / ".git").exists():
        pytest.skip("needs the git checkout that is built")
    operation = {"name": "operations/build/my-project/x", "metadata": {"build": {"id": "b1"}}}
    apis.on("POST", "/builds", (200, operation))
    apis.on(
        "GET", "/builds/b1", (200, {"status": "WORKING"}), (200, {"status": "FAILURE", "statusDetail": "test failed"})
    )
    done = cloud("build", PROJECT)
    assert done.status == 1 and "FAILURE: test failed" in done.err
    assert apis.calls("POST", "/upload/storage/v1/b/my-project-landuse/o?uploadType=media&name=source%2F")

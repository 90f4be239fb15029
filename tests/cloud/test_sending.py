"""What docker/gcp/cloud.py does with the APIs' answers, sent to a server of this machine that answers as they do."""

import socket
import time
from pathlib import Path

import pytest

from tests.cloud.apis import JOB, SERVED, TOKEN, TRAIN, Apis, Json, Tool, error
from tests.cloud.conftest import EMAIL, Checkout
from tests.cloud.script import PROJECT

pytest.importorskip("google.auth", reason="needs the extra 'cloud'")


def info(reason: str, **metadata: str) -> Json:
    domain = "googleapis.com"
    return {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": reason,
        "domain": domain,
        "metadata": metadata,
    }


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


def test_who_may_no_longer_call_it_loses_the_right_first(apis: Apis, cloud: Tool) -> None:
    """A revision without a key takes the place of one with a key: at no moment is it public."""
    other = {"role": "roles/run.viewer", "members": ["user:b@example.org"]}
    old = {"role": "roles/run.invoker", "members": ["allUsers", "user:a@x.org"]}
    shrunk = {"role": "roles/run.invoker", "members": ["user:a@x.org"]}
    apis.on(
        "GET", ":getIamPolicy",
        (200, {"etag": "e1", "bindings": [old, other]}), (200, {"etag": "e2", "bindings": [shrunk, other]}),
    )  # fmt: skip
    assert cloud(*SERVED, "cloud.serve.invokers=[user:a@x.org,user:c@x.org]").status == 0
    order = [path.rpartition(":")[2] if "Policy" in path else verb for verb, path, _ in apis.seen[:-1]]
    order = [step for step in order if not step.startswith("get")]
    assert order == ["setIamPolicy", "PATCH", "setIamPolicy"]
    first, last = [sent["policy"] for sent in apis.calls("POST", ":setIamPolicy")]
    assert first == {"version": 1, "etag": "e1", "bindings": [shrunk, other]}
    assert last["bindings"] == [other, {**shrunk, "members": ["user:a@x.org", "user:c@x.org"]}]


def test_a_first_deployment_has_nobody_to_take_out(apis: Apis, cloud: Tool) -> None:
    apis.on("GET", ":getIamPolicy", error(404, "not found", "NOT_FOUND"), (200, {"etag": "e"}))
    assert cloud(*SERVED, "cloud.serve.invokers=[allUsers]").status == 0
    assert [verb for verb, _, _ in apis.seen] == ["GET", "PATCH", "GET", "POST", "GET"]


def test_a_policy_that_another_wrote_meanwhile_is_read_again(apis: Apis, cloud: Tool) -> None:
    conflict = error(409, "There were concurrent policy changes.", "ABORTED")
    apis.on("GET", ":getIamPolicy", (200, {"etag": "before"}), (200, {"etag": "old"}), (200, {"etag": "new"}))
    apis.on("POST", ":setIamPolicy", conflict, (200, {}))
    assert cloud(*SERVED, "cloud.serve.invokers=[user:b@x.org]").status == 0
    assert [sent["policy"]["etag"] for sent in apis.calls("POST", ":setIamPolicy")] == ["old", "new"]


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
    "image": (
        error(
            403, "Permission 'artifactregistry.repositories.downloadArtifacts' denied", "PERMISSION_DENIED",
            info("IAM_PERMISSION_DENIED", permission="artifactregistry.repositories.downloadArtifacts"),
        ),
        "--role=roles/artifactregistry.reader",
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
    "trouble of theirs": (error(500, "Internal error", "INTERNAL"), "It may have been started"),
    "no JSON": ((403, {}), "--role=roles/aiplatform.user"),
}  # fmt: skip


@pytest.mark.parametrize(("answer", "cure"), FAULTS.values(), ids=FAULTS)
def test_a_refusal_is_a_sentence_with_its_cure(apis: Apis, cloud: Tool, answer: tuple[int, Json], cure: str) -> None:
    apis.on("POST", "/customJobs", answer)
    done = cloud(*TRAIN)
    assert done.status == 2 and done.err.count("\n") == 1 and done.err.startswith("error: start the job first")
    assert cure in done.err and TOKEN not in done.err


def test_a_job_is_started_once(apis: Apis, cloud: Tool) -> None:
    """After a 429 nothing has been done; after a 503 it may have been, and a second job would write the same folder."""
    apis.on("POST", "/customJobs", error(429, "Try later.", "RESOURCE_EXHAUSTED"), (429, {}), (200, JOB))
    assert cloud(*TRAIN, "--no-wait").status == 0 and len(apis.calls("POST", "/customJobs")) == 3
    apis.on("POST", "/customJobs", error(503, "Try later.", "UNAVAILABLE"), (200, JOB))
    done = cloud(*TRAIN, "--no-wait")
    assert done.status == 2 and "may have been started all the same: 'status' shows it" in done.err
    assert len(apis.calls("POST", "/customJobs")) == 4


def test_what_may_be_repeated_is(apis: Apis, cloud: Tool) -> None:
    apis.on("PATCH", "/services/landuse", (503, {}), (500, {}), (200, {"done": True}))
    apis.on("GET", ":getIamPolicy", (502, {}), (200, {"etag": "e"}))
    assert cloud(*SERVED).status == 0
    assert len(apis.calls("PATCH", "/services/landuse")) == 3


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
    assert "It may have been started" not in done.err  # for it was not asked for yet
    key = checkout.file("other.json", checkout.key(nowhere))
    done = cloud(*TRAIN, GOOGLE_APPLICATION_CREDENTIALS=str(key))
    assert done.status == 2 and done.err.count("\n") == 1 and "check the network connection" in done.err
    assert time.monotonic() - began < 60  # it does not hang


def test_a_connection_that_is_lost_at_the_start(apis: Apis, cloud: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(verb: str, path: str) -> tuple[int, Json]:
        if verb == "POST":
            raise ConnectionError
        return 200, {}

    monkeypatch.setattr(apis, "answer", lost)
    done = cloud(*TRAIN)
    assert done.status == 2 and "No answer from" in done.err and "It may have been started all the same" in done.err


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

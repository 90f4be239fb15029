"""What docker/gcp sends, against what Google publishes of its APIs, and who is given which right."""

import importlib
import json
import os
import re
import subprocess
import sys
from typing import Any

import pytest

from tests.cloud.published import document, faults, method_of, problems
from tests.cloud.script import PROJECT, ROOT, TOOL, tool

pytest.importorskip("googleapiclient", reason="needs the extra 'dev'")
EVERYTHING = [
    "cloud.github=me/landuse", "cloud.launchers=[user:me@example.org]", "cloud.sql.create=true",
    "cloud.sql.network=projects/my-project/global/networks/default", "cloud.budget.account=012345-6789AB-CDEF01",
]  # fmt: skip
GPU = ["cloud.machine=gpu", "cloud.wandb_secret=landuse-wandb-key", "cloud.network=projects/1/global/networks/default"]
SERVED = ["cloud.serve.model=results/x/export/int8", "cloud.serve.key_secret=landuse-api-key"]
NO_STEPS = ("cloudbuild.yaml", "settings.yaml")
Sent = tuple[str, str, dict[str, Any] | None]
needs_git = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs the git checkout that is built")


def dry_run(*words: str) -> list[Sent]:
    """The requests that a command would send."""
    done = tool(*words, "--dry-run")
    assert done.status == 0, done.err
    requests: list[Sent] = []
    lines = done.out.splitlines()
    heads = [i for i, line in enumerate(lines) if line.split(" ")[0] in ("GET", "POST", "PUT", "PATCH", "DELETE")]
    for here, following in zip(heads, [*heads[1:], len(lines)], strict=True):
        verb, _, url = lines[here].partition(" ")
        text = "\n".join(line for line in lines[here + 1 : following] if not line.startswith(("#", "(")))
        requests.append((verb, url, json.loads(text) if text.strip() else None))
    return requests


@pytest.fixture(scope="module")
def setup_requests() -> list[Sent]:
    return dry_run("setup", PROJECT, *EVERYTHING)


COMMANDS = {
    "train": ["train", PROJECT, "model=resnet18", "data=ucmerced"],
    "train on a GPU": ["train", PROJECT, *GPU],
    "sweep": ["sweep", PROJECT, "name=cnn_tpe", *GPU],
    "serve": ["serve", PROJECT, *SERVED, "cloud.serve.invokers=[user:me@example.org]"],
    "status": ["status", PROJECT],
    "logs of a job": ["logs", PROJECT, "cloud.name=x"],
    "logs of the service": ["logs", PROJECT],
    "teardown": ["teardown", PROJECT],
}


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_requests_are_as_published(words: list[str]) -> None:
    requests = dry_run(*words)
    assert requests
    assert [fault for request in requests for fault in faults(*request)] == []


@needs_git
def test_a_build_is_as_published() -> None:
    requests = dry_run("build", PROJECT, "cloud.tag=v1")
    assert [method_of(verb, url)[1]["id"] for verb, url, _ in requests] == [
        "storage.objects.insert", "cloudbuild.projects.locations.builds.create",
    ]  # fmt: skip
    assert [fault for request in requests for fault in faults(*request)] == []
    assert requests[1][2] is not None and requests[1][2]["substitutions"]["_TAG"] == "v1"
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert requests[1][2]["substitutions"]["_COMMIT"] == head.stdout.strip()  # whose archive it is


def test_a_setup_is_as_published(setup_requests: list[Sent]) -> None:
    assert [fault for request in setup_requests for fault in faults(*request)] == []
    called = {method_of(verb, url)[1]["id"] for verb, url, _ in setup_requests}
    assert {
        "serviceusage.services.batchEnable", "artifactregistry.projects.locations.repositories.create",
        "storage.buckets.insert", "iam.projects.serviceAccounts.create", "secretmanager.projects.secrets.create",
        "iam.projects.locations.workloadIdentityPools.providers.create", "sql.instances.insert",
        "cloudbuild.projects.locations.triggers.create", "billingbudgets.billingAccounts.budgets.create",
    } <= called  # fmt: skip


def test_cloudbuild_yaml_is_a_build_by_itself() -> None:
    """`gcloud builds submit` takes the file unchanged."""
    import yaml

    body = yaml.safe_load((TOOL.parent / "cloudbuild.yaml").read_text())
    assert problems(body, {"$ref": "Build"}, document("cloudbuild")["schemas"]) == []
    for step in body["steps"]:
        if step["id"] == "test":
            script = (ROOT / step["args"][0]).read_text(encoding="utf-8")
            assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0
            assert len(step["args"][1:]) == len(set(re.findall(r"\$([1-9])", script)))
        elif step.get("entrypoint") == "bash":  # as Cloud Build hands it over, where $$ is a dollar
            script = step["args"][-1].replace("$$", "$").replace("${_", "${")
            assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0, step["id"]
    for step in body["steps"]:
        if step["id"].startswith("build-"):
            assert "GIT_COMMIT=${_COMMIT}" in step["args"]
    assert body["substitutions"]["_COMMIT"] == "$COMMIT_SHA"
    ids = [step["id"] for step in body["steps"]]
    assert ids.index("test") < ids.index("push")  # what fails its test is not pushed


@pytest.mark.parametrize(
    ("path", "value", "fault"),
    [
        (["displayNam"], "x", "unknown"),
        (["jobSpec", "workerPoolSpecs", 0, "containerSpec", "imageUrl"], "x", "unknown"),
        (["jobSpec", "workerPoolSpecs", 0, "machineSpec", "acceleratorCount"], "1", "is no integer"),
        (["jobSpec", "workerPoolSpecs", 0, "machineSpec", "acceleratorType"], "NVIDIA_L5", "is none of"),
        (["jobSpec", "workerPoolSpecs", 0, "replicaCount"], "one", "is no number"),
        (["jobSpec", "scheduling", "strategy"], "SPOTS", "is none of"),
        (["jobSpec", "scheduling", "timeout"], "1h", "is no duration"),
        (["jobSpec", "scheduling", "restartJobOnWorkerRestart"], "yes", "is no boolean"),
        (["jobSpec", "workerPoolSpecs"], {}, "is no array"),
        (["createTime"], "2026-01-01T00:00:00Z", "is the server's"),
    ],
)
def test_a_wrong_request_is_found(path: list[Any], value: Any, fault: str) -> None:
    [(verb, url, body)] = dry_run("train", PROJECT, *GPU)
    assert body is not None
    place: Any = body
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    [found] = faults(verb, url, body)
    assert fault in found


@pytest.mark.parametrize(
    ("verb", "url"),
    [
        ("PUT", "https://europe-west1-aiplatform.googleapis.com/v1/projects/p/locations/l/customJobs"),
        ("POST", "https://aiplatform.googleapis.com/v1/projects/p/customJobs"),
        ("POST", "https://storage.googleapis.com/storage/v1/b/bucket/iam"),
    ],
)
def test_a_method_that_is_not_published_is_found(verb: str, url: str) -> None:
    with pytest.raises(LookupError):
        method_of(verb, url)
    assert faults("POST", "https://storage.googleapis.com/storage/v1/b", {"name": "x"}) == ["?project: missing"]


def test_overrides_reach_the_training_unchanged() -> None:
    words = ["model=resnet18", "+x=${oc.env:HOME}", "experiment_name='b c'", "augment.crop_scale=[0.5,1]"]
    [(_, _, body)] = dry_run("train", PROJECT, "cloud.name=first", *words)
    assert body is not None
    args = body["jobSpec"]["workerPoolSpecs"][0]["containerSpec"]["args"]
    assert args[args.index("--") + 1 :] == ["train", "run_name=first", "trainer.resume=auto", *words]
    assert args[:2] == ["--results", "gs://my-project-landuse/results/first"]


def test_probes_ask_the_routes_that_the_service_has() -> None:
    from landuse.serving.front import OPEN_ROUTES

    [body] = [body for verb, _, body in dry_run("serve", PROJECT, *SERVED) if verb == "PATCH"]
    assert body is not None
    [container] = body["template"]["containers"]
    [drain_s] = [word.partition("=")[2] for word in container["args"] if word.startswith("serve.drain_s=")]
    assert 0 < float(drain_s) < 10  # when Cloud Run kills it
    probes = [container[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe")]
    assert probes == ["/readyz", "/healthz"] and set(probes) <= set(OPEN_ROUTES)


def granted(requests: list[Sent]) -> dict[str, set[str]]:
    """Who gets what: role and kind of resource, by the member's short name."""
    result: dict[str, set[str]] = {}
    for _, url, body in requests:
        policy = (body or {}).get("policy") or (body if body and "bindings" in body else {})
        resource = url.partition(":setIamPolicy")[0].removesuffix("/iam").rpartition("/")[2]
        for binding in policy.get("bindings", []):
            for member in binding["members"]:
                kind, _, name = member.partition(":")
                short = name.partition("@")[0] if kind != "principalSet" else "GitHub"
                result.setdefault(short, set()).add(
                    f"{binding['role'].removeprefix('roles/')} on {resource.partition('@')[0]}"
                )
    return result


def test_each_account_gets_exactly_these_roles(setup_requests: list[Sent]) -> None:
    assert granted(setup_requests) == {
        "landuse-build": {
            "logging.logWriter on my-project", "artifactregistry.writer on landuse",
            "storage.objectViewer on my-project-landuse",
        },
        "landuse-train": {
            "logging.logWriter on my-project", "storage.objectUser on my-project-landuse",
            "secretmanager.secretAccessor on landuse-database-url", "secretmanager.secretAccessor on landuse-wandb-key",
        },
        "landuse-serve": {
            "storage.objectViewer on my-project-landuse", "secretmanager.secretAccessor on landuse-api-key",
        },
        "landuse-github": {"storage.objectViewer on my-project-landuse"},
        "GitHub": {"iam.workloadIdentityUser on landuse-github"},
        "me": {
            "aiplatform.user on my-project", "cloudbuild.builds.editor on my-project", "run.admin on my-project",
            "logging.viewer on my-project", "serviceusage.serviceUsageConsumer on my-project",
            "artifactregistry.reader on landuse", "storage.objectUser on my-project-landuse",
            "iam.serviceAccountUser on landuse-build", "iam.serviceAccountUser on landuse-train",
            "iam.serviceAccountUser on landuse-serve",
        },
    }  # fmt: skip


def test_github_is_trusted_for_one_branch_of_one_repository(setup_requests: list[Sent]) -> None:
    [provider] = [body for _, url, body in setup_requests if "/providers?" in url]
    assert provider is not None and provider["attributeCondition"] == (
        "assertion.repository == 'me/landuse' && assertion.ref == 'refs/heads/main'"
    )
    assert provider["attributeMapping"]["attribute.ref"] == "assertion.ref"
    policies = [(body or {}).get("policy", {}).get("bindings", []) for _, _, body in setup_requests]
    [member] = [b["members"] for bindings in policies for b in bindings if "workloadIdentityUser" in b["role"]]
    assert member[0].endswith("/workloadIdentityPools/landuse-github/attribute.repository/me/landuse")


def test_the_service_is_not_public_unless_asked() -> None:
    requests = dry_run("serve", PROJECT, *SERVED)
    assert all("setIamPolicy" not in url for _, url, _ in requests)
    opened = dry_run("serve", PROJECT, *SERVED, "cloud.serve.invokers=[allUsers]")
    assert opened[-1][2] is not None
    assert opened[-1][2]["policy"]["bindings"] == [{"role": "roles/run.invoker", "members": ["allUsers"]}]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train"], "cloud.project is not set"),
        (["train", "cloud.project=My_Project"], "is not a project's ID"),
        (["train", "cloud.projct=x"], "did you mean cloud.project?"),
        (["train", PROJECT, "cloud.region"], "write cloud.region=VALUE"),
        (["train", PROJECT, "cloud.bucket=gs://x"], "is not a bucket's name"),
        (["train", PROJECT, "cloud.machine=tpu"], "There is no cloud.machine=tpu: cpu, gpu."),
        (["train", PROJECT, "cloud.machines.gpu=[1"], "is no YAML"),
        (["train", PROJECT, "cloud.disk_gb=much"], "is not a whole number"),
        (["train", PROJECT, "cloud.launchers=user:a@x.org"], "is not a list, such as [A,B]"),
        (["train", "cloud.project="], "cloud.project is not set"),
        (["sweep", PROJECT], "No recipe is named"),
        (["sweep", PROJECT, "name=cnn_tpe", "cloud.workers=1"], "is not from 2 to 1000"),
        (["serve", PROJECT], "cloud.serve.model is not set"),
        (["serve", PROJECT, *SERVED, "model=cnn"], "model=cnn is not understood here"),
        (["setup", PROJECT, "cloud.sql.create=true"], "cloud.sql.network is not set"),
        (["setup", PROJECT, "cloud.github=landuse"], "OWNER/REPOSITORY"),
        (["sreve", PROJECT], "There is no command sreve"),
    ],
)
def test_a_mistake_is_said_in_a_sentence(words: list[str], said: str) -> None:
    done = tool(*words, "--dry-run")
    assert done.status == 2 and done.err.count("\n") == 1, done.err
    assert done.err.startswith("error: ") and said in done.err and not done.out


@pytest.mark.parametrize(
    "model", ["a,b", "a b", "a'b", 'a"b', "a[0]", "{a}", "a(b)", "../a", "a/../b", "/a", "a\\b", "${x}", "ü"]
)
def test_a_model_is_no_more_than_a_folder(model: str) -> None:
    """It becomes part of an override, which Hydra parses."""
    done = tool("serve", PROJECT, f"cloud.serve.model={model}", "--dry-run")
    assert done.status == 2 and done.err.startswith("error: ") and not done.out


def test_text_is_taken_as_it_is_written() -> None:
    words = ["cloud.tag=1.10", "cloud.name=0012", "cloud.network=null", "cloud.wandb_secret=", "cloud.disk_gb=200"]
    [(_, _, body)] = dry_run("train", PROJECT, *words)
    assert body is not None and body["displayName"] == "0012" and "network" not in body["jobSpec"]
    [pool] = body["jobSpec"]["workerPoolSpecs"]
    assert pool["containerSpec"]["imageUri"].endswith("/train:1.10") and pool["diskSpec"]["bootDiskSizeGb"] == 200
    assert "--secret" not in pool["containerSpec"]["args"]
    done = tool("train", PROJECT, "cloud.name=null", "--dry-run", LANDUSE_CLOUD_NAME="yes")
    assert '"displayName": "landuse-train-' in done.out


def test_what_makes_another_each_time_is_sent_once() -> None:
    """Resources without a name of their own, which no 409 protects from a repetition."""
    import yaml

    nameless = ("/customJobs", "/builds", "/upload/storage", "/budgets")
    found = []
    for path in TOOL.parent.glob("*.yaml"):
        for step in yaml.safe_load(path.read_text(encoding="utf-8")) if path.name not in NO_STEPS else ():
            verb, _, url = step.get("send", "").partition(" ")
            if verb == "POST" and any(part in url for part in nameless):
                found.append(path.name)
                assert step.get("once") is True, url
    assert sorted(found) == ["build.yaml", "build.yaml", "job.yaml", "setup.yaml"]


def test_the_environment_gives_settings() -> None:
    done = tool("train", "--dry-run", LANDUSE_CLOUD_PROJECT="from-there", LANDUSE_CLOUD_REGION="us-east4")
    assert "POST https://us-east4-aiplatform.googleapis.com/v1/projects/from-there/" in done.out


def test_it_runs_as_a_script() -> None:
    line = [sys.executable, str(TOOL), "train", PROJECT, "--dry-run"]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert done.returncode == 0 and '"displayName": "landuse-train-' in done.stdout, done.stderr


def test_the_guides_commands_are_understood() -> None:
    guide = (ROOT / "docs" / "google-cloud.md").read_text(encoding="utf-8")
    lines = re.findall(r'^    make cloud-(\w+)(?: ARGS=(?:"([^"]*)"|(\S+)))?', guide, re.MULTILINE)
    assert len(lines) >= 12
    for command, quoted, word in lines:
        if command == "build" and not (ROOT / ".git").exists():
            continue
        name = ["name=cnn_tpe"] if command == "sweep" else []  # as the Makefile has it
        words = [command, *name, *(quoted or word).split(), "--dry-run"]
        done = tool(*words, LANDUSE_CLOUD_PROJECT="my-project")
        assert done.status == 0, f"{words}: {done.err}"


OPERATIONS = {
    "https://serviceusage.googleapis.com/v1/projects/p/services:batchEnable": "operations/acat.p2-1",
    "https://artifactregistry.googleapis.com/v1/projects/p/locations/l/repositories": (
        "projects/p/locations/l/operations/o"
    ),
    "https://iam.googleapis.com/v1/projects/p/locations/global/workloadIdentityPools": (
        "projects/1/locations/global/workloadIdentityPools/w/operations/o"
    ),
    "https://run.googleapis.com/v2/projects/p/locations/l/services/s": "projects/p/locations/l/operations/o",
    "https://sqladmin.googleapis.com/v1/projects/p/instances": "o",
}


@pytest.mark.parametrize("url", OPERATIONS)
def test_operations_are_asked_after_where_they_are(url: str) -> None:
    operation = {"name": OPERATIONS[url]} | ({"kind": "sql#operation"} if "sqladmin" in url else {})
    asked = importlib.import_module("google_api").operation_url(url, operation, "p")
    assert method_of("GET", asked)[1]["id"].endswith(".operations.get")

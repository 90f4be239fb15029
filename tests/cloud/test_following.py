"""Jobs that docker/gcp/cloud.py has started: followed to each end, and through what passes meanwhile."""

import importlib

import pytest

from tests.cloud.apis import JOB, SWEEP, TRAIN, Apis, Json, Tool, error

pytest.importorskip("google.auth", reason="needs the extra 'cloud'")


def test_a_training_is_followed_to_its_end(apis: Apis, cloud: Tool) -> None:
    states = ["JOB_STATE_PENDING", "JOB_STATE_RUNNING", "JOB_STATE_RUNNING", "JOB_STATE_SUCCEEDED"]
    apis.on("POST", "/customJobs", (200, JOB))
    apis.on("GET", "/customJobs/77", *[(200, {**JOB, "state": state}) for state in states])
    done = cloud(*TRAIN, "model=resnet18")
    assert done.status == 0 and done.out == "gs://my-project-landuse/results/first\n"
    assert done.err.count(" first: JOB_STATE_RUNNING") == 1 and "cloud.name=first" in done.err
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


def numbered(number: int, state: str) -> Json:
    return {"name": f"projects/1/locations/europe-west1/customJobs/{number}", "state": f"JOB_STATE_{state}"}


def test_each_worker_is_a_job_and_followed_to_its_own_end(apis: Apis, cloud: Tool) -> None:
    apis.on("POST", "/customJobs", (200, numbered(0, "PENDING")), (200, numbered(1, "PENDING")))
    apis.on("GET", "/customJobs/0", (200, {**numbered(0, "FAILED"), "error": {"message": "no disk left"}}))
    running = [(200, numbered(1, "RUNNING"))] * 3
    apis.on("GET", "/customJobs/1", *running, (200, numbered(1, "SUCCEEDED")))
    done = cloud(*SWEEP)
    assert done.status == 1 and "error: search-0 ended as JOB_STATE_FAILED: no disk left\n" in done.err
    assert done.err.count(" search-1: JOB_STATE_RUNNING") == 1 and " search-1: JOB_STATE_SUCCEEDED" in done.err
    sent = apis.calls("POST", "/customJobs")
    assert [body["displayName"] for body in sent] == ["search-0", "search-1"]
    for number, body in enumerate(sent):
        [pool] = body["jobSpec"]["workerPoolSpecs"]
        assert pool["replicaCount"] == "1" and body["jobSpec"]["scheduling"]["restartJobOnWorkerRestart"] is True
        assert pool["containerSpec"]["args"][1] == f"gs://my-project-landuse/sweeps/search/worker-{number}"


def test_workers_that_were_started_before_a_refusal_are_named(apis: Apis, cloud: Tool) -> None:
    apis.on("POST", "/customJobs", (200, numbered(0, "PENDING")), error(400, "No such machine.", "INVALID_ARGUMENT"))
    done = cloud(*SWEEP)
    assert done.status == 2 and "search-0: started. Cancel them" in done.err and "No such machine" in done.err


def test_a_silence_is_put_up_with(apis: Apis, cloud: Tool) -> None:
    answers = [(503, {})] * 12 + [(200, {**JOB, "state": "JOB_STATE_SUCCEEDED"})]
    apis.on("POST", "/customJobs", (200, JOB))
    apis.on("GET", "/customJobs/77", *answers)
    done = cloud(*TRAIN)
    assert done.status == 0 and done.err.count("warning: first goes on") == 1, done.err


def test_a_long_silence_ends_the_following(apis: Apis, cloud: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.import_module("google_api"), "LONGEST_SILENCE_S", 0.05)
    apis.on("POST", "/customJobs", (200, JOB))
    apis.on("GET", "/customJobs/77", (503, {}))
    done = cloud(*TRAIN)
    assert done.status == 2 and "It goes on without anybody who follows it" in done.err and "answers 503" in done.err


def test_a_lost_connection_is_put_up_with(apis: Apis, cloud: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("google_api")
    once, lost = module.Google._once, []

    def unplugged(self: object, request: object, data: bytes | None) -> object:
        if "/customJobs/77" in request.url and len(lost) < 3:  # type: ignore[attr-defined]
            lost.append(1)
            raise module.NoAnswerError("No answer from europe-west1-aiplatform.googleapis.com.")
        return once(self, request, data)

    monkeypatch.setattr(module.Google, "_once", unplugged)
    apis.on("POST", "/customJobs", (200, JOB))
    apis.on("GET", "/customJobs/77", (200, {**JOB, "state": "JOB_STATE_SUCCEEDED"}))
    done = cloud(*TRAIN)
    assert done.status == 0 and len(lost) == 3 and done.err.count("warning: first goes on") == 1, done.err


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "PAUSED", "FAILED", "SUCCEEDED", "CANCELLED"])
def test_a_name_is_not_given_to_two_jobs_at_once(apis: Apis, cloud: Tool, state: str) -> None:
    apis.on("GET", "/customJobs?filter=display_name%3D%22first%22", (200, {"customJobs": [numbered(5, state)]}))
    apis.on("POST", "/customJobs", (200, JOB))
    done = cloud(*TRAIN, "--no-wait")
    if state in ("FAILED", "SUCCEEDED", "CANCELLED"):
        assert done.status == 0 and len(apis.calls("POST", "/customJobs")) == 1
    else:
        assert done.status == 2 and "first goes on already" in done.err and not apis.calls("POST", "/customJobs")

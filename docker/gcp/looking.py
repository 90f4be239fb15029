"""What there is, and what it has to say: jobs, builds, the service, and their logs."""

import json
from typing import Any

from documents import Request, Step, no_words, require, steps
from google_api import AnsweredError, Google, pause_s, understood
from omegaconf import DictConfig
from sending import MISSING, Sender, show

from landuse.errors import UserError, printable


def status(config: DictConfig, words: list[str], flags: set[str]) -> None:
    """Jobs, builds and the service."""
    require(config)
    no_words(words)
    sender = Sender(config, "--dry-run" in flags)
    if sender.google is None:
        sender.run("status.yaml")
        return
    for step in steps("status.yaml", config):
        with understood(step):
            lines = _lines(sender.google, step)
        print("\n".join([f"{step.say}:", *lines]))


def _lines(google: Google, step: Step) -> list[str]:
    try:
        answer = google.send(step) if isinstance(step, Request) else {}
    except AnsweredError as error:
        if error.status != MISSING:
            raise google.explained(error, step) from error
        answer = {}
    lines = []
    for item in answer.get("customJobs") or answer.get("builds") or ([answer] if "uri" in answer else []):
        ready = (item.get("terminalCondition") or {}).get("state", "")
        what = item.get("displayName") or item.get("uri") or item.get("id")
        state = item.get("state") or item.get("status") or ready
        lines.append(printable(f"  {str(item.get('createTime', ''))[:19]}  {state}  {what}"))
    return lines


def logs(config: DictConfig, words: list[str], flags: set[str]) -> None:
    """The newest lines of a job or of the service."""
    require(config)
    no_words(words)
    condition = f'resource.type="cloud_run_revision" AND resource.labels.service_name="{config.serve.name}"'
    is_dry = "--dry-run" in flags
    if config.name:
        number = _job_number(config, is_dry)
        condition = f'resource.type="ml_job" AND resource.labels.job_id="{number}"'
    config.job = {"filter": condition}
    answer = Sender(config, is_dry).run("logs.yaml")
    with understood(Request("the log", "GET", "https://logging.googleapis.com")):
        for entry in reversed(answer.get("entries") or []):
            payload = entry.get("jsonPayload") or {}
            text = entry.get("textPayload") or payload.get("message") or (json.dumps(payload) if payload else "")
            if text:
                print(printable(f"{str(entry.get('timestamp', ''))[:19]} {text}"))


def _job_number(config: DictConfig, is_dry: bool) -> str:
    """By which logs know the job that cloud.name calls."""
    if is_dry:
        show(_find(config, config.name))
        return "JOB_ID"
    config.job = {}
    found = jobs_named(Google(str(config.project), pause_s()), config, config.name)
    if not found:
        raise UserError(f"There is no job {config.name} in {config.region}: 'status' lists the newest.")
    return found[0][0].rpartition("/")[2]


def jobs_named(google: Google, config: DictConfig, name: str) -> list[tuple[str, str]]:
    """Resource name and state of each job that is called so, the newest first.

    Raises:
        OddAnswerError: the answer is not understood.
        UserError: the API refuses.
    """
    find = _find(config, name)
    with understood(find):
        try:
            jobs: list[dict[str, Any]] = google.send(find).get("customJobs") or []
        except AnsweredError as error:
            raise google.explained(error, find) from error
        return [(str(job["name"]), str(job["state"])) for job in jobs]


def _find(config: DictConfig, name: str) -> Request:
    project = f"projects/{config.project}/locations/{config.region}"
    url = f"https://{config.region}-aiplatform.googleapis.com/v1/{project}/customJobs"
    return Request(f"look up {name}", "GET", f"{url}?filter=display_name%3D%22{name}%22")

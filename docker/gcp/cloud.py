"""Google Cloud for this project: set it up, build images, train, sweep, serve, look, take it down.

    python docker/gcp/cloud.py COMMAND [--dry-run] [cloud.KEY=VALUE ...] [override of the training ...]

What is sent is in the YAML files beside this one, in the form that Google's APIs publish.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import yaml
from documents import FOLDER, PolicyChange, Request, Step, literal, require, settings, steps
from following import follow
from google_api import AnsweredError, Google, pause_s, tell
from omegaconf import DictConfig, OmegaConf

from landuse.errors import FailureError, UserError, printable

USAGE = """usage: python docker/gcp/cloud.py COMMAND [--dry-run] [cloud.KEY=VALUE ...] [override ...]

  setup      make what a project needs; what exists stays (twice is as good as once)
  build      build, test and push the images of what is committed
  train      train on Vertex AI; every other word is an override, as in python -m landuse.train
  sweep      a sweep on cloud.workers machines; other words as in python -m landuse.sweep
  serve      deploy cloud.serve.model on Cloud Run
  status     jobs, builds and the service
  logs       of cloud.name=JOB, or of the service
  teardown   list what there is to delete; --delete deletes it

  --dry-run  print the requests and send none; needs no account
  --no-wait  of build, train and sweep: start it and leave

Settings and their meaning: docker/gcp/settings.yaml. The guide: docs/google-cloud.md."""
FLAGS = ("--dry-run", "--no-wait", "--delete")
DATABASE_URL = "LANDUSE_DATABASE_URL"
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
        """
        answer: dict[str, Any] = {}
        for step in steps(document, self.config):
            if self.google is None:
                show(step)
            else:
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
        items = google.send(Request(step.say, "GET", step.url)).get(wanted.pop("list"), [])
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


def arguments_of(config: DictConfig, results: str, line: list[str], *options: str) -> list[str]:
    """What landuse.cloud.job is given."""
    wrapper = ["--results", f"gs://{config.bucket}/{results}", "--every", str(config.upload_every_s), *options]
    if config.wandb_secret:
        wrapper += ["--secret", f"WANDB_API_KEY={secret(config, config.wandb_secret)}"]
    return [*wrapper, "--", *line]


def secret(config: DictConfig, name: str) -> str:
    """Its newest version."""
    return f"projects/{config.project}/secrets/{name}/versions/latest"


def train(config: DictConfig, words: list[str], flags: set[str]) -> None:
    """One training on Vertex AI."""
    require(config)
    name_it(config, "train")
    line = ["train", f"run_name={config.name}", "trainer.resume=auto", *map(literal, words)]
    results = f"results/{config.name}"
    job = {"name": config.name, "kind": "train", "results": results, "args": arguments_of(config, results, line)}
    launch(config, [job], results, flags)


def sweep(config: DictConfig, words: list[str], flags: set[str]) -> None:
    """A job for each worker of one study."""
    require(config, "database_secret")
    if not any(word.startswith("name=") for word in words):
        raise UserError("No recipe is named: give name=RECIPE, such as name=cnn_tpe.")
    name_it(config, "sweep")
    line = ["sweep", literal(f"storage=${{oc.env:{DATABASE_URL}}}"), *map(literal, words)]
    database = ("--secret", f"{DATABASE_URL}={secret(config, config.database_secret)}")
    results = f"sweeps/{config.name}"
    jobs = []
    for number in range(config.workers):
        own = f"{results}/worker-{number}"
        args = arguments_of(config, own, line, *database)
        jobs.append({"name": f"{config.name}-{number}", "kind": "sweep", "results": own, "args": args})
    launch(config, jobs, results, flags)


def name_it(config: DictConfig, kind: str) -> None:
    """Give a name where none is given."""
    config.name = config.name or f"landuse-{kind}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"


def launch(config: DictConfig, jobs: list[dict[str, Any]], results: str, flags: set[str]) -> None:
    """Create the custom jobs and follow them."""
    sender = Sender(config, "--dry-run" in flags)
    requests: list[Request] = []
    try:
        for config.job in jobs:
            answer = sender.run("job.yaml")
            if sender.google is not None:
                tell(str(answer["name"]))
                url = f"https://{config.region}-aiplatform.googleapis.com/v1/{answer['name']}"
                requests.append(Request(str(config.job.name), "GET", url))
    except (UserError, KeyboardInterrupt):
        if requests:
            names = ", ".join(request.say for request in requests)
            tell(f"{names}: started. Cancel them (gcloud ai custom-jobs cancel) before the same name is started again.")
        raise
    if sender.google is None:
        return
    tell(f"Go on with it, were it to end early: the same command with cloud.name={config.name}")
    if "--no-wait" not in flags:
        follow(sender.google, requests, "state")
    print(f"gs://{config.bucket}/{results}")


def build(config: DictConfig, words: list[str], flags: set[str]) -> None:
    """Both images, by the same file that `gcloud builds submit` takes."""
    require(config)
    no_words(words)
    commit = git("rev-parse", "HEAD").decode().strip()
    body = yaml.safe_load((FOLDER / "cloudbuild.yaml").read_text(encoding="utf-8"))
    body["source"] = {"storageSource": {"bucket": config.bucket, "object": f"source/{commit}.tgz"}}
    body["substitutions"] |= {
        "_REGION": config.region,
        "_REPOSITORY": config.repository,
        "_TAG": config.tag,
        "_COMMIT": commit,
    }
    body["serviceAccount"] = f"projects/{config.project}/serviceAccounts/{config.accounts.build}"
    config.job = {"source": f"source%2F{commit}.tgz", "build": escaped(body)}
    if git("status", "--porcelain", "--untracked-files=no"):
        tell("warning: what is not committed is not built.")
    sender = Sender(config, "--dry-run" in flags)
    answer = sender.run("build.yaml", b"" if sender.google is None else git("archive", "--format=tar.gz", "HEAD"))
    if sender.google is not None and "--no-wait" not in flags:
        url = f"https://cloudbuild.googleapis.com/v1/projects/{config.project}/locations/{config.region}/builds"
        follow(sender.google, [Request("the build", "GET", f"{url}/{answer['metadata']['build']['id']}")], "status")


def escaped(value: Any) -> Any:
    """A document in which nothing is OmegaConf's to resolve."""
    if isinstance(value, dict):
        return {key: escaped(item) for key, item in value.items()}
    if isinstance(value, list):
        return [escaped(item) for item in value]
    return literal(value) if isinstance(value, str) else value


def git(*words: str) -> bytes:
    """What git answers about this checkout."""
    done = subprocess.run(["git", *words], cwd=FOLDER.parents[1], capture_output=True, check=False)
    if done.returncode:
        raise UserError(f"The sources cannot be packed: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def serve(config: DictConfig, words: list[str], flags: set[str]) -> None:
    """The service on Cloud Run."""
    require(config, "serve.model")
    no_words(words)
    key = config.serve.key_secret
    if "allUsers" in config.serve.invokers and not key:
        tell("warning: anybody may call it, at your cost; cloud.serve.key_secret=landuse-api-key asks for a key.")
    reference = {"secretKeyRef": {"secret": key, "version": "latest"}}
    config.job = {"env": [{"name": "LANDUSE_API_KEY", "valueSource": reference}] if key else []}
    sender = Sender(config, "--dry-run" in flags)
    sender.run("serve.yaml")
    if sender.google is not None:
        url = f"https://run.googleapis.com/v2/projects/{config.project}/locations/{config.region}"
        print(sender.google.send(Request("the service", "GET", f"{url}/services/{config.serve.name}")).get("uri", ""))


def setup(config: DictConfig, words: list[str], flags: set[str]) -> None:
    """What a project needs."""
    require(config, *(["sql.network"] if config.sql.create else []))
    no_words(words)
    Sender(config, "--dry-run" in flags).run("setup.yaml")


def status(config: DictConfig, words: list[str], flags: set[str]) -> None:
    """Jobs, builds and the service."""
    require(config)
    no_words(words)
    sender = Sender(config, "--dry-run" in flags)
    if sender.google is None:
        sender.run("status.yaml")
        return
    for step in steps("status.yaml", config):
        try:
            answer = sender.google.send(step) if isinstance(step, Request) else {}
        except AnsweredError as error:
            if error.status != MISSING:
                raise sender.google.explained(error, step) from error
            answer = {}
        print(f"{step.say}:")
        for item in answer.get("customJobs") or answer.get("builds") or ([answer] if "uri" in answer else []):
            ready = item.get("terminalCondition", {}).get("state", "")
            what = item.get("displayName") or item.get("uri") or item.get("id")
            print(f"  {item.get('createTime', '')[:19]}  {item.get('state') or item.get('status') or ready}  {what}")


def logs(config: DictConfig, words: list[str], flags: set[str]) -> None:
    """The newest lines of a job or of the service."""
    require(config)
    no_words(words)
    condition = f'resource.type="cloud_run_revision" AND resource.labels.service_name="{config.serve.name}"'
    is_dry = "--dry-run" in flags
    if config.name:
        condition = 'resource.type="ml_job" AND resource.labels.job_id="JOB_ID"'
        url = (
            f"https://{config.region}-aiplatform.googleapis.com/v1/projects/{config.project}/locations/{config.region}"
        )
        find = Request(f"look up {config.name}", "GET", f"{url}/customJobs?filter=display_name%3D%22{config.name}%22")
        if is_dry:
            show(find)
        else:
            config.job = {}
            google = Google(str(config.project), pause_s())
            try:
                jobs = google.send(find).get("customJobs", [])
            except AnsweredError as error:
                raise google.explained(error, find) from error
            if not jobs:
                raise UserError(f"There is no job {config.name} in {config.region}: 'status' lists the newest.")
            condition = condition.replace("JOB_ID", str(jobs[0]["name"]).rpartition("/")[2])
    config.job = {"filter": condition}
    entries = Sender(config, is_dry).run("logs.yaml").get("entries", [])
    for entry in reversed(entries):
        payload = entry.get("jsonPayload") or {}
        text = entry.get("textPayload") or payload.get("message") or (json.dumps(payload) if payload else "")
        if text:
            print(f"{entry.get('timestamp', '')[:19]} {printable(str(text))}")


def teardown(config: DictConfig, words: list[str], flags: set[str]) -> None:
    """List what there is to delete, and delete it where that is asked for."""
    require(config)
    no_words(words)
    sender = Sender(config, "--dry-run" in flags)
    if sender.google is None:
        sender.run("teardown.yaml")
        return
    for step in steps("teardown.yaml", config):
        tell(f"{step.say}: {_taken_down(sender.google, step, '--delete' in flags)}")
    if "--delete" not in flags:
        tell("Nothing was deleted: --delete deletes what is there.")


def _taken_down(google: Google, step: Step, deletes: bool) -> str:
    try:
        if isinstance(step, PolicyChange):
            return ("removed" if google.change(step) else "none") if deletes else "would be removed"
        if not deletes:
            google.send(Request(step.say, "GET", step.url))
            return f"would be deleted ({step.url.partition('.com/')[2]})"
        google.finish(step, google.send(step))
    except AnsweredError as error:
        if error.status == MISSING:
            return "not there"
        if error.status == 409:
            return f"kept ({error.message})"
        raise google.explained(error, step) from error
    return "deleted"


def no_words(words: list[str]) -> None:
    """These commands know settings alone.

    Raises:
        UserError: there are other words.
    """
    if words:
        raise UserError(f"{words[0]} is not understood here: settings are given as cloud.KEY=VALUE.")


COMMANDS: dict[str, Callable[[DictConfig, list[str], set[str]], None]] = {
    "setup": setup, "build": build, "train": train, "sweep": sweep, "serve": serve, "status": status, "logs": logs,
    "teardown": teardown,
}  # fmt: skip


def main(arguments: list[str]) -> int:
    """Exit status: 0 done, 1 what was started has failed, 2 a mistake that its message says how to mend."""
    if not arguments or {"-h", "--help"} & set(arguments):
        print(USAGE)
        return 0 if arguments else 2
    command, *words = arguments
    flags = {word for word in words if word in FLAGS}
    try:
        if command not in COMMANDS:
            raise UserError(f"There is no command {command}: {', '.join(COMMANDS)}.")
        config, others = settings([word for word in words if word not in FLAGS])
        OmegaConf.update(config, "job", {})
        COMMANDS[command](config, others, flags)
    except (UserError, FailureError) as error:
        tell(f"error: {printable(str(error))}")
        return 2 if isinstance(error, UserError) else 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

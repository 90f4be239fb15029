"""Google Cloud for this project: set it up, build images, train, sweep, serve, look, take it down.

    python docker/gcp/cloud.py COMMAND [--dry-run] [cloud.KEY=VALUE ...] [override of the training ...]

What is sent is in the YAML files beside this one, in the form that Google's APIs publish.
"""

import difflib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import yaml
from documents import FOLDER, PolicyChange, Request, Step, literal, no_words, require, settings, steps
from following import FINISHED, follow
from google_api import AnsweredError, Google, OddAnswerError, tell, understood
from looking import jobs_named, logs, status
from omegaconf import DictConfig, OmegaConf
from sending import MISSING, Sender

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
FLAGS = {"build": ("--no-wait",), "train": ("--no-wait",), "sweep": ("--no-wait",), "teardown": ("--delete",)}
DATABASE_URL = "LANDUSE_DATABASE_URL"


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
    try_out("train", words)
    name_it(config, "train")
    line = ["train", f"run_name={config.name}", "trainer.resume=auto", *map(literal, words)]
    results = f"results/{config.name}"
    job = {"name": config.name, "kind": "train", "results": results, "args": arguments_of(config, results, line)}
    launch(config, [job], results, flags)


def sweep(config: DictConfig, words: list[str], flags: set[str]) -> None:
    """A job for each worker of one study."""
    require(config, "database_secret")
    if any(word.lstrip("+~").partition("=")[0] == "storage" for word in words):
        raise UserError(
            "storage= is not given here, where it would be for all to read in the request: the study's URL is the "
            f"value of the secret {config.database_secret} (cloud.database_secret)."
        )
    if not any(word.startswith("name=") for word in words):
        raise UserError("No recipe is named: give name=RECIPE, such as name=cnn_tpe.")
    try_out("sweep", words)
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


def try_out(command: str, words: list[str]) -> None:
    """Compose the configuration here, before a machine is paid for that would find the same fault.

    Raises:
        UserError: the words name what there is not.
    """
    line = [sys.executable, "-m", f"landuse.{command}", *words, "--cfg", "job"]
    done = subprocess.run(line, cwd=FOLDER.parents[1], capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        raise UserError(done.stderr.strip().removeprefix("error: "))


def name_it(config: DictConfig, kind: str) -> None:
    """Give a name where none is given."""
    config.name = config.name or f"landuse-{kind}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"


def launch(config: DictConfig, jobs: list[dict[str, Any]], results: str, flags: set[str]) -> None:
    """Create the custom jobs and follow them."""
    sender = Sender(config, "--dry-run" in flags)
    if sender.google is not None:
        refuse_twins(sender.google, config, [job["name"] for job in jobs])
    requests: list[Request] = []
    try:
        for config.job in jobs:
            answer = sender.run("job.yaml")
            if sender.google is not None:
                url = f"https://{config.region}-aiplatform.googleapis.com/v1"
                with understood(Request(f"start {config.job.name}", "POST", url, once=True)):
                    tell(str(answer["name"]))
                    requests.append(Request(str(config.job.name), "GET", f"{url}/{answer['name']}"))
    except (UserError, FailureError, KeyboardInterrupt):
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


def refuse_twins(google: Google, config: DictConfig, names: list[str]) -> None:
    """Of two jobs with one name each would write over the other's results.

    Raises:
        UserError: a job of such a name has not ended.
    """
    for name in names:
        for resource, state in jobs_named(google, config, name):
            if state not in FINISHED:
                raise UserError(
                    f"{name} goes on already ({state}), and two would write one folder: give another cloud.name, or "
                    f"cancel it first (gcloud ai custom-jobs cancel {resource})."
                )


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
    if sender.google is not None:
        url = f"https://cloudbuild.googleapis.com/v1/projects/{config.project}/locations/{config.region}/builds"
        with understood(Request("start the build", "POST", url, once=True)):
            started = Request("the build", "GET", f"{url}/{answer['metadata']['build']['id']}")
        if "--no-wait" not in flags:
            follow(sender.google, [started], "status")


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
        service = Request("the service", "GET", f"{url}/services/{config.serve.name}")
        try:
            uri = sender.google.send(service).get("uri")
        except AnsweredError as error:
            raise sender.google.explained(error, service) from error
        if not isinstance(uri, str):
            raise OddAnswerError(service)
        print(printable(uri))


def setup(config: DictConfig, words: list[str], flags: set[str]) -> None:
    """What a project needs."""
    require(config, *(["sql.network"] if config.sql.create else []))
    no_words(words)
    Sender(config, "--dry-run" in flags).run("setup.yaml")


def teardown(config: DictConfig, words: list[str], flags: set[str]) -> None:
    """List what there is to delete, and delete it where that is asked for."""
    require(config)
    no_words(words)
    sender = Sender(config, "--dry-run" in flags)
    if sender.google is None:
        sender.run("teardown.yaml")
        return
    for step in steps("teardown.yaml", config):
        with understood(step):
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


COMMANDS: dict[str, Callable[[DictConfig, list[str], set[str]], None]] = {
    "setup": setup, "build": build, "train": train, "sweep": sweep, "serve": serve, "status": status, "logs": logs,
    "teardown": teardown,
}  # fmt: skip


def flags_of(command: str, words: list[str]) -> set[str]:
    """The flags among the words.

    Raises:
        UserError: one is none of this command's. As an override it would begin what was only to be shown.
    """
    known = ("--dry-run", *FLAGS.get(command, ()))
    for word in words:
        if word.startswith("-") and word not in known:
            near = difflib.get_close_matches(word, known, 1, 0.5)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}."
            raise UserError(f"'{command}' has no flag {word}: {hint}")
    return {word for word in words if word in known}


def main(arguments: list[str]) -> int:
    """Exit status: 0 done, 1 what was started has failed, 2 a mistake that its message says how to mend."""
    try:
        if not arguments or {"-h", "--help"} & set(arguments):
            print(USAGE, flush=True)
            return 0 if arguments else 2
        command, *words = arguments
        if command not in COMMANDS:
            raise UserError(f"There is no command {command}: {', '.join(COMMANDS)}.")
        flags = flags_of(command, words)
        if "???" in words:
            raise UserError("??? is no override: give KEY=VALUE.")
        config, others = settings([word for word in words if word not in flags])
        OmegaConf.update(config, "job", {})
        COMMANDS[command](config, others, flags)
        sys.stdout.flush()
    except (UserError, FailureError) as error:
        tell(f"error: {error}")
        return 2 if isinstance(error, UserError) else 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # as in `... | head`: whoever read stdout has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""What GitHub runs: its rules hold, and each line of shell that can run on this machine is run."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / ".github"
SETUP = FOLDER / "actions" / "setup"
WORKFLOWS = {path.stem: path for path in sorted((FOLDER / "workflows").glob("*.yaml"))}
ACTIONS = {path.parent.name: path for path in sorted((FOLDER / "actions").glob("*/action.yml"))}
PACKAGING = (
    "Build the source distribution, and the wheel from it",
    "Check what the index would show",
    "Install the wheel where nothing else is",
    "Train and evaluate with it, outside the checkout",
)
RUN_HERE = {
    "ci: As make lint, in the environment that is there",
    "ci: Dockerfiles",
    "ci: Workflows, what a stranger could turn against them",
    "ci: Build the site; a warning, such as a link to nowhere, is an error",
    "ci: All of them succeeded",
    "release: The tag names the version that was built",
    *(f"package: {name}" for name in PACKAGING),
}
NOT_RUN_HERE = {
    "setup: Install into .venv": "PyTorch's builds for CPUs come from an index of its own; its parts are tested below",
    "ci: Workflows, their grammar": "the package fetches its program from GitHub when it is installed",
    "ci: Run the test suite": "it is what runs this test",
    "ci: Build the pipeline's from the training's, where docker keeps that": "it needs Docker's daemon",
    "ci: Train, export and serve with them": "it needs Docker's daemon; test_containers.py does it with buildah",
    "ci: Ask the pipeline for its stages": "it needs Docker's daemon; test_containers.py does it with buildah",
    "weekly: Run all tests but those that need a ray cluster or buildah": "it is what runs this test",
    "weekly: Look up what the lock names": "it asks a service of known vulnerabilities",
    "release: Make the release, with notes from the pull requests": "it needs a repository on GitHub",
    "google: Say what the account may do there": "it needs an account of Google's",
    "google: Pull what the pipeline's last state needs": "it needs an account of Google's",
}


def content(path: Path) -> dict[str, Any]:
    """A workflow; YAML 1.1 reads its key ``on`` as true."""
    tree: dict[Any, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {"on" if key is True else key: value for key, value in tree.items()}


def triggers(workflow: dict[str, Any]) -> set[str]:
    return {workflow["on"]} if isinstance(workflow["on"], str) else set(workflow["on"])


def steps() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, path in WORKFLOWS.items():
        for job in content(path)["jobs"].values():
            yield from ((name, step) for step in job.get("steps", []))
    for name, path in ACTIONS.items():
        yield from ((name, step) for step in content(path)["runs"]["steps"])


LINES = {f"{name}: {step.get('name')}": step["run"] for name, step in steps() if "run" in step}


def job(workflow: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = content(WORKFLOWS[workflow])["jobs"][name]
    return found


# The rules


@pytest.mark.parametrize("name", WORKFLOWS)
def test_nobody_gets_more_than_is_needed(name: str) -> None:
    workflow = content(WORKFLOWS[name])
    assert workflow["permissions"] == {"contents": "read"}, "what a job needs beyond it says the job"
    assert not triggers(workflow) & {"pull_request_target", "workflow_run"}, "which run with the repository's rights"
    text = WORKFLOWS[name].read_text(encoding="utf-8")
    assert "secrets." not in text and "secrets:" not in text
    for key, task in workflow["jobs"].items():
        rights = {right for right, level in task.get("permissions", {}).items() if level == "write"}
        if "pull_request" in triggers(workflow):
            assert rights <= {"security-events"}, f"{key}: a stranger's pull request runs it"
        assert not (name == "package" and rights)


@pytest.mark.parametrize("name", WORKFLOWS)
def test_nothing_runs_for_ever_or_for_nothing(name: str) -> None:
    workflow = content(WORKFLOWS[name])
    for key, task in workflow["jobs"].items():
        assert "uses" in task or 0 < task["timeout-minutes"] <= 180, key
    if triggers(workflow) != {"workflow_call"}:  # there the caller's counts
        assert workflow["concurrency"]["cancel-in-progress"] is (name != "release")
        assert "github.ref" in workflow["concurrency"]["group"]


@pytest.mark.parametrize(
    "path", [*WORKFLOWS.values(), *ACTIONS.values()], ids=lambda path: f"{path.parent.name}/{path.stem}"
)
def test_actions_of_others_are_pinned(path: Path) -> None:
    used = re.findall(r"^\s*(?:- )?uses: (\S+)(.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert used
    for action, comment in used:
        if action.startswith("./"):
            assert (ROOT / action).exists()
        else:
            assert re.fullmatch(r"[\w.-]+(/[\w.-]+)+@[0-9a-f]{40}", action), f"{action}: pin the commit"
            assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment), f"{action}: say which version it is"


def test_one_commit_an_action() -> None:
    commits: dict[str, set[str]] = {}
    for _, step in steps():
        action, _, commit = step.get("uses", "").partition("@")
        commits.setdefault("/".join(action.split("/")[:2]), set()).add(commit)
    assert all(len(found) == 1 for found in commits.values()), commits


def test_no_checkout_leaves_its_token() -> None:
    checkouts = [step for _, step in steps() if step.get("uses", "").startswith("actions/checkout@")]
    assert len(checkouts) >= 7
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_tests_cover_systems_versions_and_bounds() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    oldest, beyond = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", project["requires-python"]).groups()  # type: ignore[union-attr]
    matrix = job("ci", "tests")["strategy"]["matrix"]
    assert matrix["python"] == [f"3.{oldest}", f"3.{int(beyond) - 1}"]
    assert [system.split("-")[0] for system in matrix["os"]] == ["ubuntu", "macos", "windows"]
    assert matrix["dependencies"] == ["locked"]
    assert {(extra["python"], extra["dependencies"]) for extra in matrix["include"]} == {
        (f"3.{oldest}", "minimal"), (f"3.{int(beyond) - 1}", "newest"),
    }  # fmt: skip
    assert content(ACTIONS["setup"])["inputs"]["python-version"]["default"] == matrix["python"][-1]


def test_setup_agrees_with_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (uv,) = (step["with"] for name, step in steps() if name == "setup" and "setup-uv" in step.get("uses", ""))
    assert f"UV_VERSION := {uv['version']}\n" in makefile
    assert "requirements.lock" in uv["cache-dependency-glob"], "or an old environment comes out of the cache"
    assert uv["prune-cache"] is False, "or nothing is in it"
    (extras,) = re.findall(r"^extras=(\S+)", (SETUP / "install.sh").read_text(encoding="utf-8"), re.MULTILINE)
    (locked,) = re.findall(r"^LOCKED := (.*)$", makefile, re.MULTILINE)
    assert extras.split(",") == locked.split()


def test_one_check_stands_for_all() -> None:
    jobs = content(WORKFLOWS["ci"])["jobs"]
    assert set(jobs["required"]["needs"]) == set(jobs) - {"required"}
    assert jobs["required"]["if"] == "always()", "or it is skipped, which counts as passed, when one fails"


def test_google_only_where_it_is_set_up_and_never_for_pull_requests() -> None:
    workflow = content(WORKFLOWS["google"])
    assert triggers(workflow) == {"push", "workflow_dispatch"}
    assert workflow["jobs"]["bucket"]["if"] == "vars.GCP_WORKLOAD_IDENTITY_PROVIDER != ''"
    others = [name for name, step in steps() if "google-github-actions" in step.get("uses", "") and name != "google"]
    assert not others


def test_only_what_was_tried_is_released() -> None:
    jobs = content(WORKFLOWS["release"])["jobs"]
    assert jobs["package"]["uses"] == content(WORKFLOWS["ci"])["jobs"]["package"]["uses"]
    for name in ("index", "github"):
        assert jobs[name]["needs"] == "attest" and jobs["attest"]["needs"] == "package"
    assert "PYPI_ENVIRONMENT" in jobs["index"]["if"] and "PYPI_ENVIRONMENT" in jobs["index"]["environment"]
    assert not any("checkout" in step.get("uses", "") for name in ("index", "github") for step in jobs[name]["steps"])


def test_dependabot_looks_at_all_kinds() -> None:
    updates = yaml.safe_load((FOLDER / "dependabot.yml").read_text(encoding="utf-8"))["updates"]
    assert {update["package-ecosystem"] for update in updates} == {"docker-compose", "github-actions", "pip"}
    assert all(update["schedule"] == {"interval": "weekly"} and update["groups"] for update in updates)


# The lines of shell


def test_every_line_is_run_or_excused() -> None:
    assert not RUN_HERE & NOT_RUN_HERE.keys()
    assert LINES.keys() == RUN_HERE | NOT_RUN_HERE.keys()
    assert len(LINES) == sum("run" in step for _, step in steps()), "two steps of a workflow share a name"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the files of this one, and with this environment as its .venv, as after set-up on a runner."""
    if not sys.platform.startswith("linux"):
        pytest.skip("the lines are those of Linux runners")
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True).stdout.decode().split("\0")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs a git checkout")
    copy = tmp_path_factory.mktemp("runner") / "landuse"
    for name in filter(None, names):
        source = ROOT / name
        if (source.is_file() or source.is_symlink()) and name != ".venv":
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy / name, follow_symlinks=False)
    subprocess.run(["git", "init", "--quiet"], cwd=copy, check=True)
    subprocess.run(["git", "add", "--all"], cwd=copy, check=True)
    (copy / ".venv").symlink_to(sys.prefix)
    return copy


def run_line(tree: Path, name: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """As a runner does it: bash with -eo pipefail."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("GITHUB_", "GIT_"))}
    path = f"{Path(sys.prefix) / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", LINES[name]], cwd=tree, capture_output=True,
        env=inherited | {"PATH": path} | environment, text=True, check=False,
    )  # fmt: skip


def test_zizmor_finds_nothing(tree: Path) -> None:
    name = "ci: Workflows, what a stranger could turn against them"
    done = run_line(tree, name)
    assert done.returncode == 0, done.stdout + done.stderr
    broken = tree / ".github" / "workflows" / "broken.yaml"
    broken.write_text(
        "on: pull_request_target\njobs: {a: {runs-on: x, steps: [{run: 'echo ${{ github.head_ref }}'}]}}\n"
    )
    assert run_line(tree, name).returncode != 0, "it looks at them"
    broken.unlink()


def test_hadolint_finds_nothing(tree: Path) -> None:
    if shutil.which("hadolint", path=f"{Path(sys.prefix) / 'bin'}") is None:
        pytest.skip("needs hadolint")
    done = run_line(tree, "ci: Dockerfiles")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("result", ["success", "failure", "cancelled", "skipped"])
def test_required_fails_unless_all_succeeded(tree: Path, result: str) -> None:
    if shutil.which("jq") is None:
        pytest.skip("needs jq")
    needs = json.dumps({"lint": {"result": "success", "outputs": {}}, "tests": {"result": result, "outputs": {}}})
    assert (run_line(tree, "ci: All of them succeeded", NEEDS=needs).returncode == 0) is (result == "success")


def test_a_tag_must_name_the_version(tree: Path, tmp_path: Path) -> None:
    name = "release: The tag names the version that was built"
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / "landuse-1.2.3-py3-none-any.whl").touch()
    assert run_line(tmp_path, name, TAG="v1.2.3").returncode == 0
    assert run_line(tmp_path, name, TAG="v1.2.4").returncode != 0


@pytest.mark.slow
def test_lint_finds_nothing(tree: Path) -> None:
    done = run_line(tree, "ci: As make lint, in the environment that is there")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_site_is_built(tree: Path) -> None:
    done = run_line(tree, "ci: Build the site; a warning, such as a link to nowhere, is an error")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_package_works_where_nothing_else_is(tree: Path, tmp_path: Path) -> None:
    """It needs a package index, and 6 GB: PyTorch comes from there, with its GPU libraries."""
    for name in PACKAGING:
        done = run_line(tree, f"package: {name}", RUNNER_TEMP=str(tmp_path), UV_PYTHON=sys.executable)
        assert done.returncode == 0, f"{name}\n{done.stdout}{done.stderr}"
    assert sorted(path.suffix for path in (tree / "dist").iterdir() if path.suffix in (".whl", ".gz")) == [
        ".gz",
        ".whl",
    ]
    shutil.rmtree(tmp_path / "empty")


# The lock on a runner


def split(lock: str) -> tuple[str, str]:
    spec = importlib.util.spec_from_file_location("split_lock", SETUP / "split_lock.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    parts: tuple[str, str] = module.split(lock)
    return parts


def test_lock_is_divided_without_loss() -> None:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    hashed, torch = split(lock)

    def names(text: str) -> set[str]:
        return {re.split(r"[=\[]", line)[0] for line in text.splitlines() if re.match("[a-z0-9]", line)}

    gone = names(lock) - names(hashed) - names(torch)
    assert names(torch) == {"torch", "torchvision"} and "--hash" not in torch
    assert gone and all(name == "triton" or name.startswith(("nvidia-", "cuda-")) for name in gone)
    assert {"tritonclient", "torch-pruning", "numpy"} <= names(hashed)
    for line in torch.splitlines():
        assert line in lock
    for block in re.split(r"^(?=[a-z0-9])", hashed, flags=re.MULTILINE)[1:]:
        assert "--hash=sha256:" in block and block in lock


def test_lock_without_pytorch_is_refused() -> None:
    with pytest.raises(SystemExit, match="must name torch, torchvision once each"):
        split("numpy==2.0 \\\n    --hash=sha256:00\n")


@pytest.mark.parametrize(("system", "is_divided"), [("linux-gnu", True), ("darwin24", False), ("msys", False)])
def test_lock_is_divided_on_linux_alone(tmp_path: Path, system: str, is_divided: bool) -> None:
    lock = ROOT / "requirements.lock"
    subprocess.run([sys.executable, SETUP / "split_lock.py", lock, system, tmp_path], check=True)
    assert ((tmp_path / "torch.txt").read_text(encoding="utf-8") != "") is is_divided
    assert ((tmp_path / "hashed.txt").read_bytes() == lock.read_bytes()) is not is_divided

"""`dvc repro` in a checkout of its own, with a configuration that takes seconds."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
STAGES = ["params", "download", "preprocess", "train", "evaluate"]
RECIPE = Path("conf/experiment/pipeline.yaml")
SMALL = {
    "data": {"image_size": 32, "synthetic": {"images_per_class": 5}},
    "model": {"width": 4, "depth": 2},
    "trainer": {"device": "cpu", "epochs": 2, "batch_size": 16},
    "hardware": {"num_threads": 1},
}


class Checkout:
    """A checkout in which the pipeline's commands run as from a shell."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        # These processes do what other tests measure for coverage already, and are many.
        left_out = ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG")
        environment = {key: value for key, value in os.environ.items() if key not in left_out} | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(self.root / "src"),
        }
        return subprocess.Popen(
            arguments, cwd=self.root, env=environment, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def run(self, *arguments: str) -> str:
        process = self.start(*arguments)
        output, _ = process.communicate(timeout=600)
        assert process.returncode == 0, output
        return output

    def repro(self) -> list[str]:
        """The stages that ran."""
        self.output = self.run(sys.executable, "-m", "dvc", "repro")
        return re.findall(r"^Running stage '(\w+)'", self.output, re.MULTILINE)

    def edit(self, **sections: dict[str, object]) -> None:
        """Change the pipeline's recipe."""
        recipe = yaml.safe_load((self.root / RECIPE).read_text())
        for section, values in sections.items():
            recipe.setdefault(section, {}).update(values)
        (self.root / RECIPE).write_text("# @package _global_\n" + yaml.safe_dump(recipe, sort_keys=False))

    def lock(self, stage: str) -> dict[str, str]:
        """The hash of each of a stage's outputs."""
        outs = yaml.safe_load((self.root / "dvc.lock").read_text())["stages"][stage]["outs"]
        return {out["path"]: out["md5"] for out in outs}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout in which the pipeline has run once."""
    root = tmp_path_factory.mktemp("pipeline") / "checkout"
    root.mkdir()
    for name in ("conf", "src", ".dvc/config", ".dvcignore", ".gitignore", "dvc.yaml", "params.yaml", "pyproject.toml"):
        source, target = ROOT / name, root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, target)
    checkout = Checkout(root)
    checkout.edit(**SMALL)
    checkout.run("git", "init", "--quiet")
    assert checkout.repro() == STAGES
    checkout.run("git", "add", ".")
    checkout.run("git", "-c", "user.name=Test", "-c", "user.email=test@localhost", "commit", "--quiet", "-m", "run")
    return checkout


@pytest.fixture
def checkout(finished: Checkout, tmp_path: Path) -> Checkout:
    """A copy at another path of the checkout in which the pipeline has run once."""
    shutil.copytree(finished.root, tmp_path / "elsewhere", symlinks=True)
    return Checkout(tmp_path / "elsewhere")


def test_nothing_changed_and_comments(checkout: Checkout) -> None:
    assert checkout.repro() == []
    with (checkout.root / RECIPE).open("a") as file:
        file.write("# a comment\n")
    assert checkout.repro() == ["params"]  # which writes what was there
    assert checkout.run("git", "status", "--porcelain", "params.yaml") == ""


@pytest.mark.slow
def test_another_model(checkout: Checkout) -> None:
    checkout.edit(model={"width": 8})
    assert checkout.repro() == ["params", "train", "evaluate"]
    difference = json.loads(checkout.run(sys.executable, "-m", "dvc", "metrics", "diff", "--json"))
    assert "loss" in difference["outputs/pipeline/scores.json"]
    page = checkout.run(sys.executable, "-m", "dvc", "plots", "show").split("file://")[-1].strip()
    assert all(title in Path(page).read_text() for title in ("Loss", "Validation accuracy", "Confusion"))


@pytest.mark.slow
def test_other_data(checkout: Checkout) -> None:
    checkout.edit(data={"image_size": 32, "synthetic": {"images_per_class": 6}})
    assert checkout.repro() == STAGES


def test_params_cannot_go_stale(checkout: Checkout) -> None:
    written = (checkout.root / "params.yaml").read_text()
    (checkout.root / "params.yaml").write_text(written.replace("width: 4", "width: 5"))
    assert checkout.repro() == ["params"]
    assert (checkout.root / "params.yaml").read_text() == written


@pytest.mark.slow
def test_the_same_from_nothing_at_another_path(finished: Checkout, checkout: Checkout) -> None:
    shutil.rmtree(checkout.root / "data")
    shutil.rmtree(checkout.root / "outputs")
    shutil.rmtree(checkout.root / ".dvc" / "cache")
    (checkout.root / "dvc.lock").unlink()
    assert checkout.repro() == STAGES
    for stage in STAGES:
        assert checkout.lock(stage) == finished.lock(stage)


@pytest.fixture
def interrupted(checkout: Checkout) -> Checkout:
    """The checkout after its training was killed in a later epoch, with no chance to say goodbye."""
    checkout.edit(trainer={"epochs": 100})
    process = checkout.start(sys.executable, "-m", "dvc", "repro")
    metrics = checkout.root / "outputs" / "pipeline" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (metrics.is_file() and 3 <= len(metrics.read_text().splitlines()) < 100):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return checkout


@pytest.mark.slow
def test_interrupted(interrupted: Checkout) -> None:
    assert interrupted.repro() == ["train", "evaluate"]
    # best.pt: an epoch that is the best so far is saved as such first, and the kill may fall between the two.
    assert re.search(r"resumed from .*(last|best)\.pt at epoch [1-9]", interrupted.output), interrupted.output

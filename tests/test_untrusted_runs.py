"""The commands on a run folder, checkpoint or weights file of a stranger: one sentence, status 2, nothing touched."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import yaml

from landuse import runs
from landuse.errors import printable
from landuse.models.description import model_fingerprint
from tests.conftest import Finished, write_images
from tests.forgery import Call, run_code, torch_zip

Spoil = Callable[[Path], Any]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the run that all tests start from is kept, and the pack of its images."""
    return tmp_path_factory.mktemp("kept")


@pytest.fixture
def train(command, tiny, kept: Path) -> Callable[..., Finished]:
    return lambda *overrides: command("train", *tiny, f"data.home={kept}/data", "run_name=mine", *overrides)


@pytest.fixture
def run(train, kept: Path, tmp_path: Path) -> Path:
    """A stranger's run folder, whole so far."""
    if not (kept / "run").exists():
        done = train()
        assert done.status == 0, done.err
        shutil.copytree(tmp_path / "outputs/train/folder_cnn/mine", kept / "run")
        shutil.rmtree(tmp_path / "outputs")
    shutil.copytree(kept / "run", tmp_path / "stranger")
    return tmp_path / "stranger"


@pytest.fixture
def refused(command, run: Path, kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """What a command says of the run; it must be one line, and nothing may be imported or written outside."""
    (tmp_path / "evil_module.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "keep").write_text("precious")

    def ask(name: str, *overrides: str) -> str:
        done = command(name, f"run={run}", f"data.home={kept}/data", *overrides)
        assert done.status == 2, done.err
        assert "Traceback" not in done.err and "evil_module" not in sys.modules
        (line,) = (line for line in done.err.splitlines() if line.startswith("error: "))
        assert [path.name for path in outside.iterdir()] == ["keep"]
        assert (outside / "keep").read_text() == "precious"
        return line

    return ask


def setting(key: str, value: Any) -> Spoil:
    def spoil(run: Path) -> None:
        tree = yaml.safe_load((run / "config.yaml").read_text())
        *parents, last = key.split(".")
        node = tree
        for parent in parents:
            node = node[parent]
        node[last] = value
        (run / "config.yaml").write_text(yaml.safe_dump(tree))

    return spoil


def text(name: str, content: str) -> Spoil:
    return lambda run: (run / name).write_text(content)


def replaced(name: str, how: Callable[[Path], Any]) -> Spoil:
    def spoil(run: Path) -> None:
        path = run / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        how(path)

    return spoil


def billion_laughs() -> str:
    return "a0: &a0 [x]\n" + "".join(f"a{i + 1}: &a{i + 1} [*a{i}, *a{i}]\n" for i in range(40))


def huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**40)  # takes no room


CONFIGS: dict[str, tuple[Spoil, str]] = {
    "a target": (setting("_target_", "evil_module.Net"), "Unknown configuration key '_target_'"),
    "a list as kind": (setting("model.kind", ["x"]), "config.yaml is not what training wrote: model.kind="),
    "too deep": (setting("data.archive.mirrors", json.loads("[" * 60 + "]" * 60)), "nested more than 20 times"),
    "an interpolation": (text("config.yaml", "outputs: ${oc.env:HOME}"), "has an interpolation"),
    "a hidden one": (text("config.yaml", 'outputs: "\\x24{oc.env:HOME}"'), "has an interpolation"),
    "a tag": (text("config.yaml", "a: !!python/object/apply:evil_module.x []"), "could not determine a constructor"),
    "aliases": (text("config.yaml", billion_laughs()), "it has aliases"),
    "a terabyte": (replaced("config.yaml", huge), "bytes"),
    "a pipe": (replaced("config.yaml", os.mkfifo), "config.yaml"),
}


@pytest.mark.parametrize("attack", CONFIGS)
def test_config(attack: str, refused, run: Path) -> None:
    spoil, message = CONFIGS[attack]
    spoil(run)
    assert message in refused("evaluate")


@pytest.mark.parametrize("attack", ["a hidden one", "a tag", "aliases", "a terabyte", "a pipe"])
def test_config_in_the_report(attack: str, refused, run: Path) -> None:
    CONFIGS[attack][0](run)
    assert f"{run}/config.yaml" in refused("report")


def test_a_class_that_only_the_run_names_is_not_imported(refused, run: Path) -> None:
    architecture = {"kind": "custom", "name": "x", "target": "evil_module.Net", "params": {}}
    setting("model", architecture | {"weights": None, "freeze_backbone": False})(run)
    content = json.loads((run / "model/model.json").read_text())
    (run / "model/model.json").write_text(json.dumps(content | {"architecture": architecture}))
    assert "a class named there is not imported" in refused("evaluate")


@pytest.mark.parametrize("attack", ["a hidden one", "a tag", "aliases"])
def test_config_of_a_run_to_reproduce(attack: str, refused, run: Path) -> None:
    CONFIGS[attack][0](run)
    assert f"{run}/config.yaml" in refused("reproduce")


def test_reproduce_does_not_import_a_class_that_only_the_run_names(refused, run: Path) -> None:
    setting("model", {"kind": "custom", "name": "x", "target": "evil_module.Net", "params": {}})(run)
    assert "a class named there is not imported" in refused("reproduce")


REPORTS: dict[str, tuple[Spoil, str]] = {
    "endless metrics": (replaced("metrics.jsonl", huge), "more than 50,000,000 bytes"),
    "a pipe": (replaced("metrics.jsonl", os.mkfifo), "metrics.jsonl is no file"),
    "a device": (replaced("summary.json", lambda path: path.symlink_to("/dev/zero")), "summary.json is no file"),
    "deep": (text("provenance.json", '{"a":' * 10**5), "provenance.json is not valid JSON"),
    "a huge number": (text("summary.json", '{"best_epoch": 1' + "0" * 30 + "}"), "more than 64 bits"),
    "a picture that is none": (lambda run: (run / "figures/x.png").write_text("<script>"), "is not a PNG file"),
    "a pipe as picture": (lambda run: os.mkfifo(run / "figures/x.png"), "x.png is no file"),
    "figures elsewhere": (replaced("figures", lambda path: path.symlink_to("../outside")), "figures leads out of"),
}


@pytest.mark.parametrize("attack", REPORTS)
def test_report(attack: str, refused, run: Path) -> None:
    spoil, message = REPORTS[attack]
    spoil(run)
    assert message in refused("report")


@pytest.mark.parametrize("how", ["link", "pipe"])
def test_a_link_or_pipe_in_the_place_of_a_result(how: str, command, run: Path, kept: Path, tmp_path: Path) -> None:
    outside = tmp_path / "precious"
    outside.write_text("precious")
    results = ("evaluate.log", "evaluations.jsonl", "report.html", "evaluation.json", f".report.html.{os.getpid()}.tmp")
    for name in results:
        replaced(name, os.mkfifo if how == "pipe" else lambda path: path.symlink_to(outside))(run)
    done = command("evaluate", f"run={run}", f"data.home={kept}/data")
    assert done.status == 0, done.err
    assert outside.read_text() == "precious"
    assert all((run / name).is_file() and not (run / name).is_symlink() for name in results[:3])


def test_a_lock_that_leads_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/.lock").symlink_to(tmp_path / "precious")
    with runs.claimed(tmp_path / "run"):
        assert not (tmp_path / "run/.lock").is_symlink()
    assert (tmp_path / "precious").read_text() == "precious"


def test_figures_elsewhere_are_not_drawn_over(refused, run: Path) -> None:
    REPORTS["figures elsewhere"][0](run)
    assert "figures leads out of the run folder" in refused("evaluate")


def rewrite_weights(run: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    weights = run / "model/model.safetensors"
    safetensors.torch.save_file(change(safetensors.torch.load(weights.read_bytes())), weights)
    content = json.loads((run / "model/model.json").read_text())
    content["weights_sha256"] = model_fingerprint(run / "model")
    (run / "model/model.json").write_text(json.dumps(content))


def test_weights_that_overflow(refused, run: Path) -> None:
    rewrite_weights(run, lambda weights: weights | {"head.weight": torch.full_like(weights["head.weight"], 3e38)})
    rewrite_weights(run, lambda weights: weights | {"features.1.3.weight": weights["features.1.3.weight"] + 1e38})
    assert "gives predictions that are not finite" in refused("evaluate")


def test_a_head_of_another_number_of_classes(refused, run: Path) -> None:
    rewrite_weights(run, lambda weights: weights | {"head.bias": torch.zeros(5)})
    assert "tensor head.bias is torch.float32 [5], but the architecture has torch.float32 [3]" in refused("evaluate")


def test_another_number_of_classes(refused, run: Path, tmp_path: Path) -> None:
    others = write_images(tmp_path / "others", {"barn": (1, 2, 3), "lake": (90, 90, 90)}, per_class=10)
    line = refused("evaluate", f"data.root={others}")
    assert "field, roof, water" in line and "barn, lake" in line


def test_a_history_that_would_steer_the_page(command, run: Path) -> None:
    record = json.loads((run / "metrics.jsonl").read_text().splitlines()[0])
    (run / "metrics.jsonl").write_text(json.dumps(record | {"<script>alert(1)</script>": 1}) + "\n")
    (run / "provenance.json").write_text(json.dumps({"command_line": "<script>alert(2)</script>"}))
    (run / "report.html").unlink()
    done = command("report", f"run={run}")
    assert done.status == 0, done.err
    page = (run / "report.html").read_text()
    assert "alert(2)" in page and "<script>alert" not in page


def test_names_of_classes_neither_steer_the_terminal_nor_flood_it(refused, run: Path) -> None:
    content = json.loads((run / "model/model.json").read_text())
    content["classes"] = ["\x1b[31mroof\r", "<script>alert(1)</script>", "x" * 10**6]
    (run / "model/model.json").write_text(json.dumps(content))
    line = refused("evaluate")
    assert "\\x1b[31mroof\\r" in line and line.isprintable() and len(line) < 4000
    assert line.endswith("give data of the same classes.")


def test_printable_leaves_what_is_printable() -> None:
    assert printable("Wohngebiet dünn, 住宅\nsecond line") == "Wohngebiet dünn, 住宅\nsecond line"
    assert printable("\x1b]0;title\x07\udc80") == "\\x1b]0;title\\x07\\udc80"


def content_of(run: Path) -> dict[str, Any]:
    return torch.load(run / "checkpoints/last.pt", weights_only=True)


def changed(path: str, value: Any) -> Spoil:
    """One entry of the checkpoints, at a path of keys."""

    def spoil(run: Path) -> None:
        content = content_of(run)
        *parents, last = path.split("/")
        node = content
        for parent in parents:
            node = node[int(parent)] if parent.isdigit() else node[parent]
        node[last] = value
        for file in (run / "checkpoints").glob("*.pt"):
            torch.save(content, file)

    return spoil


def doubled(times: int) -> tuple[Any, ...]:
    """Small in the file, where each is written once; endless for who walks through all of it."""
    pair: tuple[Any, ...] = ()
    for _ in range(times):
        pair = (pair, pair)
    return pair


CHECKPOINTS: dict[str, tuple[Spoil, str]] = {
    "an epoch of text": (changed("state/epoch", "1"), "is damaged or is no checkpoint"),
    "a loss that is none": (changed("state/best", {"val/loss": float("nan")}), "is damaged or is no checkpoint"),
    "identity of lists": (changed("identity/seed", [[1]]), "is damaged or is no checkpoint"),
    "another model": (changed("model/head.weight", torch.zeros(7, 7)), "does not fit this training"),
    "weights that are text": (changed("model", "x"), "does not fit this training"),
    "no number": (changed("model/head.bias", torch.full((3,), torch.nan)), "does not fit this training"),
    "a moment of another shape": (changed("optimizer/state/0/exp_avg", torch.zeros(2)), "does not fit this training"),
    "no moments": (changed("optimizer/state/0", {}), "does not fit this training"),
    "a schedule of text": (changed("schedule", "x"), "does not fit this training"),
    "a schedule's count of text": (changed("schedule/stale_epochs", "x"), "does not fit this training"),
    "a rate beyond all numbers": (changed("schedule/decays", -(10**6)), "does not fit this training"),
    "no mean of squares": (changed("optimizer/state/0/exp_avg_sq", None), "does not fit this training"),
    "a state that grows": (changed("optimizer/state/0/foo", doubled(30)), "is no number and no tensor"),
    "parameters that grow": (changed("optimizer/param_groups/0/params", doubled(40)), "has other groups of parameters"),
    "a negative step": (changed("optimizer/state/0/step", torch.tensor(-1.0)), "is negative"),
    "a tensor as time": (changed("state/train_seconds", torch.tensor(1.0)), "is damaged or is no checkpoint"),
    "time before all time": (changed("state/epoch_seconds", -1e300), "is damaged or is no checkpoint"),
    "steps without images": (changed("state/step", 10**9), "is damaged or is no checkpoint"),
    "a best without metrics": (changed("state/best", {"val/los": 1.0}), "is damaged or is no checkpoint"),
}


@pytest.mark.parametrize("attack", CHECKPOINTS)
def test_checkpoint(attack: str, train, run: Path, tmp_path: Path) -> None:
    spoil, message = CHECKPOINTS[attack]
    spoil(run)
    done = train(f"trainer.resume={run}/checkpoints/last.pt", "trainer.epochs=3")
    assert done.status == 2, done.err
    (line,) = (line for line in done.err.splitlines() if line.startswith("error: "))
    assert message in line and str(run / "checkpoints/last.pt") in line
    assert not list(tmp_path.glob("outputs/train/*/mine/checkpoints/*"))


@pytest.mark.parametrize("how", ["path", "auto"])
@pytest.mark.parametrize("content", ["code", "all memory"])
def test_checkpoint_that_is_a_program(how: str, content: str, train, run: Path, tmp_path: Path) -> None:
    evil = run_code(tmp_path / "executed") if content == "code" else Call(bytearray, 2**40)
    for file in (run / "checkpoints").glob("*.pt"):
        torch_zip(file, {"format": 1, "state": {}, "identity": {}, "model": evil})
    before = {file.name: file.read_bytes() for file in (run / "checkpoints").glob("*.pt")}
    place = [f"trainer.resume={run}"] if how == "path" else ["trainer.resume=auto", f"hydra.run.dir={run}"]
    if how == "auto":
        (run / "summary.json").unlink()
    done = train(*place)
    assert done.status == 2, done.err
    assert "damaged or is no checkpoint: resume from another or start anew" in done.err
    assert "Traceback" not in done.err and not (tmp_path / "executed").exists()
    assert {file.name: file.read_bytes() for file in (run / "checkpoints").glob("*.pt")} == before


def test_a_best_that_does_not_fit_counts_as_missing(train, run: Path) -> None:
    content = torch.load(run / "checkpoints/best.pt", weights_only=True)
    content["model"] = {"head.bias": torch.zeros(3)}
    torch.save(content, run / "checkpoints/best.pt")
    last = content_of(run)
    last["state"] |= {"step": 1, "num_images": 7}  # so that last.pt is not the best epoch's itself
    torch.save(last, run / "checkpoints/last.pt")
    (run / "checkpoints/previous.pt").unlink(missing_ok=True)
    done = train(f"trainer.resume={run}/checkpoints/last.pt", "trainer.epochs=3")
    assert done.status == 0, done.err
    assert "from here on the best counts anew" in done.err


BESIDE_CHECKPOINTS: dict[str, Spoil] = {
    "a pipe": replaced("provenance.json", os.mkfifo),
    "a terabyte": replaced("provenance.json", huge),
    "deep": text("provenance.json", '{"resumed_from": [' + "[" * 400 + "]" * 400 + "]}"),
}


@pytest.mark.parametrize("attack", BESIDE_CHECKPOINTS)
def test_the_provenance_beside_a_checkpoint_counts_as_none(attack: str, train, run: Path, tmp_path: Path) -> None:
    BESIDE_CHECKPOINTS[attack](run)
    done = train(f"trainer.resume={run}", "trainer.epochs=3")
    assert done.status == 0, done.err
    (part,) = json.loads((tmp_path / "outputs/train/folder_cnn/mine/provenance.json").read_text())["resumed_from"]
    assert part["git_commit"] is None and part["epoch"] == 2


@pytest.mark.parametrize("record", [{"epoch": 0}, {"epoch": 0, "images_per_second": "x"}])
def test_a_history_beside_a_checkpoint_that_is_none(record: dict[str, Any], train, run: Path, tmp_path: Path) -> None:
    (run / "metrics.jsonl").write_text(json.dumps(record) + "\n")
    done = train(f"trainer.resume={run}", "trainer.epochs=3")
    assert done.status == 2, done.err
    assert "metrics.jsonl, line 1 is no record of an epoch" in done.err
    assert not list(tmp_path.glob("outputs/train/*/mine/*"))


@pytest.mark.parametrize("accuracy", [{}, {"val/accuracy": None}, {"val/accuracy": "high"}])
def test_a_finished_run_without_a_result(accuracy: dict[str, Any], train, run: Path) -> None:
    (run / "summary.json").write_text(json.dumps({"status": "completed", **accuracy}))
    done = train("trainer.resume=auto", f"hydra.run.dir={run}")
    assert done.status == 2, done.err
    assert "summary.json is damaged: remove it to let the run go on." in done.err


@pytest.mark.parametrize("suffix", ["pt", "pth", "safetensors"])
def test_weights_that_are_a_program(suffix: str, train, tmp_path: Path) -> None:
    file = torch_zip(tmp_path / f"w.{suffix}", {"state_dict": {"head.bias": run_code(tmp_path / "executed")}})
    done = train(f"model.weights={file}")
    assert done.status == 2 and "Traceback" not in done.err
    (line,) = (line for line in done.err.splitlines() if line.startswith("error: "))
    assert line.startswith(f"error: {file} ")
    assert not (tmp_path / "executed").exists() and not list(tmp_path.glob("outputs/**/*.*"))


def test_latest_that_leads_nowhere(command, tmp_path: Path) -> None:
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs/latest").symlink_to("gone")
    done = command("evaluate")
    assert done.status == 2 and "train first" in done.err

"""The command reproduce: a run trained again, on tiny images, through the door."""

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import safetensors.torch
import torch
import yaml
from PIL import Image

from landuse.tracking import metrics_file, provenance
from tests.run_folders import RUN_FILES, files, load, training

HOSTILE = "\x1b[31m<script>${oc.env:HOME}\n" + "x" * 500


@pytest.fixture
def run(command, tiny, tmp_path: Path) -> Path:
    """A finished run."""
    assert command("train", *tiny, "run_name=x").status == 0
    return tmp_path / "outputs/train/folder_cnn/x"


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """A reproduction takes the recorded number, which would be that of the tests behind it."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def result(tmp_path: Path, name: str = "x") -> dict:
    return load(tmp_path / "outputs/reproduce/folder_cnn" / name / "reproduction.json")


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps(load(path) | values))


def refused(done, *parts: str) -> None:
    """One sentence, exit 2, nothing of a stranger's as it is."""
    assert done.status == 2, done.err
    (line,) = (line for line in done.err.splitlines() if line.startswith("error: "))
    for part in parts:
        assert part in line
    assert "Traceback" not in done.err
    assert "\x1b" not in done.err


def test_the_same_run_again(command, run: Path, tiny, tmp_path: Path) -> None:
    assert command("train", *tiny, "run_name=newer").status == 0
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    done = command("reproduce", f"run={run}")
    assert done.status == 0, done.err
    assert "identical   2 epochs, 14 tensors" in done.err
    assert "the same    code, configuration, lock, versions, machine, hardware and data" in done.err
    own = tmp_path / "outputs/reproduce/folder_cnn/x"
    assert files(own) == sorted([*RUN_FILES, "reproduction.json"])
    assert result(tmp_path) == {
        "identical": True, "epochs": 2, "tensors": 14, "first_difference": None, "largest_weight_difference": None,
        "weight_differences": {}, "environment_differences": [], "run": str(run),
        "created": result(tmp_path)["created"],
    }  # fmt: skip
    assert (tmp_path / "outputs/latest").resolve().name == "newer"
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert load(own / "provenance.json")["command_line"] == f"python -m landuse.reproduce run={run}"


def test_all_that_is_random_again(command, tiny, tmp_path: Path) -> None:
    settings = ["augment=strong", "augment.mixup=0.4", "augment.erasing=0.3", "trainer.ema=0.9", "trainer.accumulate=2"]
    done = command("train", *tiny, *settings, "hardware.precision=bf16", "model.dropout=0.2", "trainer.clip_norm=1.0")
    assert done.status == 0, done.err
    done = command("reproduce")  # the newest run
    assert done.status == 0, done.err
    assert "identical   2 epochs, 14 tensors" in done.err


def test_another_result_is_kept_beside_the_first(command, run: Path, tmp_path: Path) -> None:
    assert command("reproduce").status == 0
    done = command("reproduce", "seed=5")
    assert done.status == 1
    assert "configuration: seed 0 then, 5 now" in done.err
    (message,) = (line for line in done.err.splitlines() if line.startswith("error: "))
    assert re.search(r"first difference is in epoch 1, train/loss: \S+ then, \S+ now, a difference of \S+; ", message)
    assert re.search(r"\d+ of 14 tensors of the model differ, the largest difference is \S+ in \S+\. ", message)
    assert message.endswith("What else is different: configuration, see above.")
    assert "Traceback" not in done.err
    assert result(tmp_path)["identical"] is True
    other = result(tmp_path, "x-2")
    first, largest = other["first_difference"], other["largest_weight_difference"]
    assert other["identical"] is False
    assert (first["epoch"], first["key"]) == (0, "train/loss")
    assert first["difference"] == abs(first["then"] - first["now"]) > 0
    of_weights = {name: d for name, d in other["weight_differences"].items() if "num_batches" not in name}
    assert largest["difference"] == max(of_weights.values())
    assert other["environment_differences"][0]["key"] == "seed"


def test_a_changed_line_is_the_first_difference(command, run: Path, tmp_path: Path) -> None:
    history = metrics_file.read(run / "metrics.jsonl")
    history[1]["val/loss"] += 0.25
    (run / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in history))
    done = command("reproduce")
    assert done.status == 1
    assert "first difference is in epoch 2, val/loss: " in done.err and "a difference of 0.25;" in done.err
    assert "all 14 tensors of the model are the same" in done.err
    assert "Nothing else is different, so the run's files were changed" in done.err
    assert result(tmp_path)["first_difference"]["difference"] == pytest.approx(0.25)


def test_a_missing_epoch_is_the_first_difference(command, run: Path) -> None:
    (run / "metrics.jsonl").write_text((run / "metrics.jsonl").read_text().splitlines(keepends=True)[0])
    done = command("reproduce")
    assert done.status == 1
    assert "epoch 2, the whole epoch: missing then, there now" in done.err


def test_a_changed_weight_is_found_with_its_size(command, run: Path, tmp_path: Path) -> None:
    path = run / "model/model.safetensors"
    weights = safetensors.torch.load(path.read_bytes())
    name = next(name for name, tensor in weights.items() if tensor.is_floating_point())
    weights[name].view(-1)[0] += 0.5
    path.write_bytes(safetensors.torch.save(weights))
    done = command("reproduce")
    assert done.status == 1
    assert "is not the file that model.json describes" in done.err
    assert f"every epoch is the same; 1 of 14 tensors of the model differ, the largest difference is 0.5 in {name}" in (
        done.err
    )
    assert result(tmp_path)["first_difference"]["tensor"] == name
    assert result(tmp_path)["weight_differences"] == {name: pytest.approx(0.5)}


def test_the_same_weights_with_other_class_names_are_another_model(command, run: Path, tmp_path: Path) -> None:
    content = load(run / "model/model.json")
    change(run / "model/model.json", classes=content["classes"][::-1])
    done = command("reproduce")
    assert done.status == 1
    assert (
        'every epoch is the same; model.json: classes ["water", "roof", "field"] then, ["field", "roof", "water"] now'
        in (done.err)
    )
    assert "all 14 tensors of the model are the same" in done.err
    assert result(tmp_path)["first_difference"]["key"] == "classes" and result(tmp_path)["identical"] is False


def test_every_other_circumstance_is_named(command, run: Path, tmp_path: Path) -> None:
    path = run / "provenance.json"
    then = load(path)
    hardware = then["hardware"] | {"device_name": "Abacus 3000", "num_threads": 1, "allocator": "system"}
    change(
        path, git_commit="a" * 40, git_dirty=False, git_diff_hash=None, source_hash="b" * 64, lock_hash="c" * 64,
        python="3.0.1", torch="0.1", platform="Plan 9", hardware=hardware,
    )  # fmt: skip
    done = command("reproduce")
    assert done.status in (0, 1), done.err
    now = load(tmp_path / "outputs/reproduce/folder_cnn/x/provenance.json")
    assert now["hardware"]["num_threads"] == 1 and now["hardware"]["allocator"] == "system"  # as was recorded
    for line in (
        f"code: commit {'a' * 12} then, ",
        f"lock: lock_hash {'c' * 12} then, {now['lock_hash'][:12]} now",
        f"versions: python 3.0.1 then, {now['python']} now",
        f"versions: torch 0.1 then, {now['torch']} now",
        f"machine: platform Plan 9 then, {now['platform']} now",
        f"hardware: device_name Abacus 3000 then, {now['hardware']['device_name']} now",
    ):
        assert line in done.err, line
    assert "hardware: num_threads" not in done.err
    whats = {difference["what"] for difference in result(tmp_path)["environment_differences"]}
    assert whats == {"code", "lock", "versions", "machine", "hardware"}


def test_hardware_of_the_command_line_goes_first(command, run: Path, tmp_path: Path) -> None:
    change(run / "provenance.json", hardware=load(run / "provenance.json")["hardware"] | {"device": "cuda:7"})
    done = command("reproduce", "hardware.precision=bf16", "trainer.device=cpu")
    assert done.status == 1
    assert "hardware: precision fp32 then, bf16 now" in done.err
    assert "hardware: device cuda:7 then, cpu now" in done.err


def test_other_data_are_refused(command, tiny, image_folder: Path, tmp_path: Path) -> None:
    images = shutil.copytree(image_folder, tmp_path / "images")
    overrides = [override for override in tiny if not override.startswith("data.root")]
    assert command("train", *overrides, f"data.root={images}", "run_name=x").status == 0
    then = load(tmp_path / "outputs/latest/provenance.json")["data_fingerprint"]
    Image.new("RGB", (16, 16), (1, 2, 3)).save(images / "field/field000.png")
    done = command("reproduce")
    refused(done, f"data: data_fingerprint {then[:12]} then, ", "data.root=PATH")
    assert re.search(rf"data_fingerprint {then[:12]} then, (?!{then[:12]})[0-9a-f]{{12}} now", done.err)
    assert not (tmp_path / "outputs/reproduce").exists()
    done = command("reproduce", f"data.root={image_folder}")
    assert done.status == 0, done.err
    assert "configuration: data.root" in done.err  # another place; the same images


def test_another_split_is_refused(command, run: Path) -> None:
    refused(command("reproduce", "data.split.seed=3"), "data: split_fingerprint ")


@pytest.mark.parametrize("status", ["interrupted", "failed", "pruned", HOSTILE])
def test_an_unfinished_run_is_refused(command, run: Path, status: str) -> None:
    change(run / "summary.json", status=status)
    refused(command("reproduce"), "is no finished run (status: ", "trainer.resume=auto")


def test_no_run_and_half_a_run(command, run: Path, tmp_path: Path) -> None:
    refused(command("reproduce", "outputs=elsewhere"), "train first")
    (run / "model/model.safetensors").unlink()
    refused(command("reproduce"), "has no model/model.safetensors")
    (run / "summary.json").unlink()
    refused(command("reproduce"), "summary.json is missing")


def test_a_run_that_was_interrupted_is_made_in_one_go(command, tiny, tmp_path: Path) -> None:
    run = tmp_path / "outputs/train/folder_cnn/x"
    # One thread in the process of its own as in this one, where other tests have had a say.
    arguments = [*tiny, "run_name=x", "trainer.epochs=40", "trainer.resume=auto", "hardware.num_threads=1"]
    process = training(arguments, tmp_path, run)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert command("train", *arguments).status == 0
    (part,) = load(run / "provenance.json")["resumed_from"]
    assert part["checkpoint"] == "checkpoints/last.pt"
    assert part["changed"] == {}
    assert part["source_hash"] == load(run / "provenance.json")["source_hash"]
    done = command("reproduce")
    assert done.status == 0, done.err
    assert "identical   40 epochs" in done.err
    assert load(tmp_path / "outputs/reproduce/folder_cnn/x/provenance.json")["resumed_from"] is None


def test_what_cannot_be_made_in_one_go_is_refused(command, run: Path, tiny, tmp_path: Path) -> None:
    assert command("train", *tiny, "run_name=x", "trainer.resume=auto", "trainer.epochs=3").status == 2  # finished
    change(run / "summary.json", status="interrupted")
    assert command("train", *tiny, "run_name=x", "trainer.resume=auto", "trainer.epochs=3").status == 0
    refused(command("reproduce"), "went on after epoch 2", "(trainer.epochs: first, then [2, 3])", "in one go")
    done = command("train", *tiny, "run_name=y", f"trainer.resume={run}", "trainer.epochs=4")
    assert done.status == 0, done.err
    parts = load(tmp_path / "outputs/latest/provenance.json")["resumed_from"]
    assert [part["epoch"] for part in parts] == [2, 3]
    assert parts[1]["checkpoint"] == str(run / "checkpoints/last.pt") and parts[1]["changed"] is None
    refused(command("reproduce"), "in one go")
    old = load(tmp_path / "outputs/latest/provenance.json")
    del old["resumed_from"]
    (tmp_path / "outputs/latest/provenance.json").write_text(json.dumps(old))
    refused(command("reproduce"), "went on from a checkpoint of another run", str(run))


def test_an_interrupted_reproduction_goes_on(command, tiny, tmp_path: Path) -> None:
    assert command("train", *tiny, "run_name=x", "trainer.epochs=40").status == 0
    own = tmp_path / "outputs/reproduce/folder_cnn/x"
    process = training([f"data.home={tmp_path}/data"], tmp_path, own, command="reproduce")
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 143, err
    assert "continue    the same command\n" in err
    assert not (own / "reproduction.json").exists()
    done = command("reproduce", f"data.home={tmp_path}/data")
    assert done.status == 0, done.err
    assert "resumed from" in done.err
    assert "identical   40 epochs, 14 tensors" in done.err
    assert result(tmp_path)["identical"] is True


@pytest.mark.parametrize("is_finished", [True, False])
def test_what_other_code_began_begins_anew(command, run: Path, tmp_path: Path, is_finished: bool) -> None:
    own = tmp_path / "outputs/reproduce/folder_cnn/x"
    assert command("reproduce").status == 0
    (own / "reproduction.json").unlink()
    if is_finished:  # killed just before its result
        done = command("reproduce")
        assert done.status == 0, done.err
        assert "the same    code" in done.err and "identical   2 epochs" in done.err
        (own / "reproduction.json").unlink()
    else:
        change(own / "summary.json", status="interrupted")
    change(own / "provenance.json", source_hash="b" * 64)
    done = command("reproduce")
    assert done.status == 0, done.err
    assert "was made otherwise (code: " in done.err and "it begins anew" in done.err
    assert "resumed from" not in done.err
    assert "identical   2 epochs" in done.err


def test_a_custom_model_needs_the_command_lines_word(command, tiny, tmp_path: Path) -> None:
    (tmp_path / "nets_again.py").write_text(
        "from torch import nn\n"
        "def net(num_classes, width):\n"
        "    return nn.Sequential(nn.Conv2d(3, width, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(),\n"
        "                         nn.Linear(width, num_classes))\n"
    )
    overrides = [override for override in tiny if not override.startswith("model")]
    custom = ["model=custom", "model.target=nets_again.net"]
    done = command("train", *overrides, *custom, "+model.params.width=3", "model.name=mynet", "run_name=x")
    assert done.status == 0, done.err
    refused(command("reproduce"), "model=custom model.target=nets_again.net")
    done = command("reproduce", *custom)
    assert done.status == 0, done.err
    assert "the same    code" in done.err  # the run's parameters and name


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.yaml", "model: {kind: cnn, wdth: 3}"),
        ("config.yaml", "a: &x [1]\nb: *x"),
        ("provenance.json", "[" * 100_000),
        ("provenance.json", json.dumps({"resumed_from": [HOSTILE]})),
        ("provenance.json", json.dumps({"hardware": {"num_threads": 10**9}})),
        ("provenance.json", json.dumps({"data_fingerprint": HOSTILE})),
        ("metrics.jsonl", '{"epoch": "\\u001b[31m"}\n'),
        ("summary.json", "null"),
        ("model/model.json", "{}"),
        ("model/model.safetensors", "\xff" * 64),
    ],
)
def test_a_strangers_folder_gets_one_sentence(command, run: Path, file: str, content: str) -> None:
    (run / file).write_text(content)
    refused(command("reproduce"))
    assert not (run.parents[2] / "reproduce").exists()


def test_a_strangers_names_lead_nowhere(command, run: Path, tmp_path: Path) -> None:
    tree = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump(tree | {"run_name": "../../../../escaped"}))
    refused(command("reproduce"), "run_name=../../../../escaped")
    (run / "config.yaml").write_text(yaml.safe_dump(tree))
    change(
        run / "provenance.json",
        command_line="rm -rf /",
        platform=HOSTILE,
        packages={HOSTILE: HOSTILE},
        hardware={"precision": HOSTILE, "device": HOSTILE, "num_threads": True, "compile": "yes"},
    )
    done = command("reproduce")
    assert done.status == 0, done.err
    assert "\x1b" not in done.err and "x" * 200 not in done.err
    assert "machine: platform ?[31m<script>" in done.err


def test_jobs_of_a_multirun_have_folders_of_their_own(command, tiny, tmp_path: Path) -> None:
    assert command("train", "--multirun", *tiny, "seed=1,2", "run_name=sweep").status == 0
    for job in ("0", "1"):
        assert command("reproduce", f"run=outputs/multirun/sweep/{job}").status == 0
        assert result(tmp_path, f"sweep-{job}")["identical"] is True


@pytest.mark.slow
def test_outside_a_git_checkout(tiny, tmp_path: Path) -> None:
    """The package copied elsewhere: its sources are the same, so the code is; changed, they are named."""
    root = Path(provenance.__file__).parents[3]
    copy = tmp_path / "site"
    shutil.copytree(root / "src", copy, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(root / "conf", copy / "landuse/conf")

    def landuse(name: str, *overrides: str) -> "subprocess.CompletedProcess[str]":
        line = [sys.executable, "-m", f"landuse.{name}", *overrides]
        environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(copy), "HOME": str(tmp_path)}
        return subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True)

    done = landuse("train", *tiny, "run_name=x")
    assert done.returncode == 0, done.stderr
    recorded = load(tmp_path / "outputs/latest/provenance.json")
    assert recorded["git_commit"] is None and recorded["lock_hash"] is None
    assert recorded["source_hash"] == provenance.source_hash(root / "src/landuse")
    with (copy / "landuse/progress.py").open("a") as file:
        file.write("# a change\n")
    done = landuse("reproduce", f"data.home={tmp_path}/data")
    assert done.returncode == 0, done.stderr
    assert re.search(
        r"code: version \S+ outside git, sources \w{12} then, version \S+ outside git, sources", done.stderr
    )
    assert "identical   2 epochs, 14 tensors" in done.stderr

"""The command drift, with a model that tells colours apart and images that do, or do not, look like its reference."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from landuse.monitoring import REFERENCE_FILE
from landuse.monitoring.reference import make_reference, save
from landuse.serving.engine import Engine
from tests.conftest import Run
from tests.pages import Page
from tests.run_folders import load
from tests.serving.tiny_model import COLOURS, write_exported


def write_images(root: Path, seed: int, per_class: int) -> list[Path]:
    """Noisy images of 16 px, each about the colour of its class."""
    draws, paths = np.random.default_rng(seed), []
    for name, colour in COLOURS.items():
        (root / name).mkdir(parents=True)
        for i in range(per_class):
            pixels = np.clip(np.array(colour) + draws.integers(-40, 40, (16, 16, 3)), 0, 255)
            paths.append(root / name / f"{name}{i}.png")
            Image.fromarray(pixels.astype(np.uint8)).save(paths[-1])
    return paths


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported folder whose reference is made of 120 images of the three colours."""
    root = tmp_path_factory.mktemp("drift")
    folder = write_exported(root / "fp32")
    images = np.stack([np.asarray(Image.open(path)) for path in write_images(root / "val", 0, 40)])
    answers = Engine(folder, max_batch=len(images))(images)
    save(folder / REFERENCE_FILE, make_reference(images, answers.probabilities, answers.features))
    return folder


@pytest.fixture(scope="module")
def alike(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty other images of the same kind, and two files that are none."""
    root = tmp_path_factory.mktemp("alike")
    write_images(root, 1, 20)
    (root / "empty.png").touch()
    (root / "text.jpg").write_text("no image")
    return root


@pytest.fixture(scope="module")
def darker(alike: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("darker")
    for path in alike.rglob("*/*.png"):
        Image.open(path).point(lambda level: level * 0.6).save(root / path.name)
    return root


def test_images_of_the_same_kind(command: Run, exported: Path, alike: Path, tmp_path: Path) -> None:
    done = command("drift", f"run={exported}", f"input={alike}", "run_name=a")
    assert done.status == 0, done.err
    assert "no drift" in done.err and "empty.png" in done.err and "text.jpg" in done.err
    folder = tmp_path / "outputs/drift/a"
    content = load(folder / "drift.json")
    assert (content["state"], content["num_images"], content["num_listed"]) == ("ok", 60, 62)
    assert {Path(path).name for path in content["unusable"]} == {"empty.png", "text.jpg"}
    assert content["reference"] == {"split": "val", "num_images": 90}
    assert content["model"] == {
        "folder": str(exported),
        "variant": "fp32",
        "version": load(exported / "onnx.json")["onnx_sha256"][:12],
    }
    page = Page(folder / "drift.html")
    assert "no drift" in page.text and "60 images are like those" in page.text
    assert all(image["src"].startswith("data:image/png") for image in page.attributes("img"))


def test_other_images(command: Run, exported: Path, darker: Path, tmp_path: Path) -> None:
    done = command("drift", f"run={exported}", f"input={darker}/*.png", "run_name=b", f"outputs={tmp_path}/elsewhere")
    assert done.status == 1
    assert done.err.count("error: ") == 1 and "60 images are not like those" in done.err
    assert "Traceback" not in done.err
    content = load(tmp_path / "elsewhere/drift/b/drift.json")
    drifted = {test["name"]: test for test in content["tests"] if test["drifted"]}
    assert content["state"] == "drift" and {"red", "green", "blue"} <= drifted.keys()
    assert drifted["green"]["now"] < drifted["green"]["before"]
    page = Page(tmp_path / "elsewhere/drift/b/drift.html")
    assert "drift" in page.text and "are not like those" in page.text


def test_another_share_of_the_classes(command: Run, exported: Path, alike: Path, tmp_path: Path) -> None:
    done = command("drift", f"run={exported}", f"input={alike}/water", "drift.min_images=10", "run_name=c")
    assert done.status == 1
    tests = load(tmp_path / "outputs/drift/c/drift.json")["tests"]
    assert next(test for test in tests if test["kind"] == "classes")["drifted"]


def test_files_listed_on_stdin(
    command: Run, exported: Path, alike: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = "\n".join(map(str, alike.rglob("*/*.png")))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(names.encode())))
    done = command("drift", f"run={exported}", "input=-", "run_name=d")
    assert done.status == 0, done.err
    assert load(tmp_path / "outputs/drift/d/drift.json")["num_images"] == 60


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "input= is missing"),
        (["input={alike}/absent"], "no such file"),
        (["input={alike}/water"], "20 image(s) that can be used, and fewer than drift.min_images=50"),
        (["input={alike}/text.jpg"], "has 0 image(s)"),
        (["input={alike}", "drift.alpha=2"], "drift.alpha=2"),
    ],
)
def test_mistakes(
    command: Run, exported: Path, alike: Path, tmp_path: Path, overrides: list[str], message: str
) -> None:
    done = command("drift", f"run={exported}", *(override.format(alike=alike) for override in overrides))
    assert done.status == 2
    assert message in done.err and "Traceback" not in done.err
    assert not (tmp_path / "outputs").exists()


def test_a_model_without_a_reference(command: Run, alike: Path, tmp_path: Path) -> None:
    write_exported(tmp_path / "bare")
    done = command("drift", f"run={tmp_path}/bare", f"input={alike}")
    assert done.status == 2
    assert "reference.safetensors is missing" in done.err and "Export the run again" in done.err


def test_of_very_many_images_a_part_is_compared(
    command: Run, exported: Path, alike: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("landuse.drift.MOST_IMAGES", 30)
    overrides = ["drift.min_images=20", "drift.alpha=1e-9"]
    for name in ("e", "f"):
        command("drift", f"run={exported}", f"input={alike}", f"run_name={name}", *overrides)
    first, second = (load(tmp_path / f"outputs/drift/{name}/drift.json") for name in "ef")
    assert first["num_listed"] == 62 and first["num_images"] + len(first["unusable"]) == 30
    assert first["tests"] == second["tests"]


def test_it_needs_no_torch(exported: Path, alike: Path, tmp_path: Path) -> None:
    program = "import sys; from landuse.drift import main; sys.modules['torch'] = None; main()"  # importing it fails
    overrides = [f"run={exported}", f"input={alike}"]
    done = subprocess.run([sys.executable, "-c", program, *overrides], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

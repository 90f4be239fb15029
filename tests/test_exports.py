"""Finding an export, and making it where it is missing or of older weights."""

import importlib.util
import json
import logging
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from landuse import exports
from landuse.config.schema import Config
from landuse.errors import UserError
from tests.conftest import overrides
from tests.run_folders import commands
from tests.serving.tiny_model import picture, write_exported


@pytest.fixture(scope="module")
def trained(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without an export."""
    where = tmp_path_factory.mktemp("trained")
    commands(where, ["train", *overrides(image_folder, where), f"hydra.run.dir={where}/run", "trainer.epochs=1"])
    return where / "run"


@pytest.fixture
def exported_twice(tmp_path: Path) -> Path:
    """As the folder ``export`` of a run, with an image."""
    write_exported(tmp_path / "export/fp32")
    Image.fromarray(picture("roof")).save(tmp_path / "export/roof.png")
    return tmp_path / "export"


@pytest.fixture
def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(exports.importlib.util, "find_spec", lambda name: None if name == "torch" else found(name))


def config_of(run: Path, variant: str = "fp32") -> Config:
    config = Config(run=str(run), variant=variant)
    config.data.home = str(run.parent / "data")
    return config


@pytest.mark.slow
def test_made_once_and_again_for_other_weights(trained: Path) -> None:
    folder = exports.find_exported(config_of(trained))
    assert folder == trained / "export" / "fp32"
    written = (folder / "model.onnx").stat().st_mtime_ns
    assert exports.find_exported(config_of(trained)) == folder
    assert (folder / "model.onnx").stat().st_mtime_ns == written
    description = json.loads((folder / "onnx.json").read_text())
    description["source"]["weights_sha256"] = "0" * 64
    (folder / "onnx.json").write_text(json.dumps(description))
    assert not exports.is_current(folder, trained)
    exports.find_exported(config_of(trained))
    assert exports.is_current(folder, trained)
    assert (folder / "model.onnx").stat().st_mtime_ns != written


@pytest.mark.slow
def test_of_several_that_start_at_once_one_makes_it(trained: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.rmtree(trained / "export", ignore_errors=True)
    config = config_of(trained)
    caplog.set_level(logging.INFO, "landuse.exports")
    with ThreadPoolExecutor(2) as executor:
        folders = set(executor.map(lambda _: exports.find_exported(config), range(2)))
    assert folders == {trained / "export" / "fp32"}
    assert sum("making it" in record.message for record in caplog.records) == 1


def test_an_exported_folder_is_taken_as_it_is(tmp_path: Path, without_torch: None) -> None:
    folder = write_exported(tmp_path / "anywhere")
    assert exports.find_exported(config_of(folder)) == folder


def test_what_is_neither_run_nor_export_is_named(exported_twice: Path, command) -> None:
    done = command("predict", f"run={exported_twice}", f"input={exported_twice}")
    assert done.status == 2 and f"One of its folders can be named: {exported_twice}/fp32" in done.err
    (exported_twice / "fp32/onnx.json").unlink()
    done = command("predict", f"run={exported_twice}/fp32", f"input={exported_twice}")
    assert done.status == 2 and "it lacks onnx.json" in done.err
    done = command("export", "variant=int8")
    assert done.status == 2 and "export.variants=[int8]" in done.err


def test_without_torch_none_can_be_made(trained: Path, without_torch: None) -> None:
    with pytest.raises(UserError, match="landuse.export"):
        exports.find_exported(config_of(trained, "int8"))


def test_a_run_that_cannot_be_exported(trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "model").mkdir(parents=True)
    for name in ("config.yaml", "model/model.json"):
        (run / name).write_bytes((trained / name).read_bytes())
    (run / "model" / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(UserError, match="reason above"):
        exports.find_exported(config_of(run))

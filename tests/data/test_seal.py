"""Data that were changed under a finished pack are noticed, and unchanged ones are not read again."""

from pathlib import Path

import numpy as np
import pytest

from landuse.config.schema import DataConfig
from landuse.data import seal
from landuse.data.pack import prepare
from landuse.errors import UserError


@pytest.fixture
def config(image_folder: Path, tmp_path: Path) -> DataConfig:
    return DataConfig(name="folder", source="folder", root=str(image_folder), home=str(tmp_path), image_size=16)


@pytest.mark.parametrize("name", ["train.npy", "test.npy", "index.csv"])
def test_a_changed_file_is_named_with_both_fingerprints(config: DataConfig, name: str) -> None:
    pack = prepare(config)
    path = pack.folder / name
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    others = [split for split in ("train", "val", "test") if name not in ("index.csv", f"{split}.npy")]
    for split in others:
        prepare(config).split(split)
    with pytest.raises(UserError) as caught:
        prepare(config).split("test" if name == "test.npy" else "train")
    was, now = pack.sha256[name][:12], seal.digest(path)[:12]
    assert f"{pack.folder} is damaged ({name} was changed: its fingerprint is {now} and was {was})" in str(caught.value)
    assert "remove the folder, and it is made anew" in str(caught.value)


def test_unchanged_files_are_read_once(config: DataConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("landuse.data.identity.SETTLED_S", -3600)
    read: list[str] = []
    really_digest = seal.digest
    monkeypatch.setattr(seal, "digest", lambda path: read.append(path.name) or really_digest(path))
    prepare(config).split("train")
    assert read == ["train.npy", "index.csv"]
    prepare(config).split("train")
    assert len(read) == 2
    prepare(config).split("val")
    assert read[2:] == ["val.npy", "index.csv"]


def test_a_pack_that_was_copied_elsewhere_is_the_same(config: DataConfig) -> None:
    pack = prepare(config)
    for path in pack.folder.glob("*.npy"):
        np.save(path, np.load(path))  # another file of the same content
    assert len(prepare(config).split("train")) == 36


def test_a_run_does_not_go_on_with_other_data(command, tiny, tmp_path: Path) -> None:
    assert command("train", *tiny, "run_name=x").status == 0
    (tmp_path / "outputs/train/folder_cnn/x/summary.json").unlink()  # as if it were unfinished
    (path,) = tmp_path.glob("data/packs/*/train.npy")
    content = bytearray(path.read_bytes())
    content[-1] ^= 255
    path.write_bytes(content)
    done = command("train", *tiny, "run_name=x", "trainer.resume=auto", "trainer.epochs=3")
    assert done.status == 2
    assert "train.npy was changed" in done.err and "Traceback" not in done.err

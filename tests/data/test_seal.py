"""Data that were changed under a finished pack are noticed, and unchanged ones are not read again."""

import os
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


def settle(folder: Path) -> None:
    """As if the files had been written a while ago; the time of the last status change stays what it is."""
    for path in folder.iterdir():
        os.utime(path, (0, 0))


@pytest.mark.parametrize("name", ["train.npy", "test.npy", "index.csv"])
def test_a_changed_file_is_named_with_both_fingerprints(config: DataConfig, name: str) -> None:
    pack = prepare(config)
    path = pack.folder / name
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        prepare(config)
    was, now = pack.sha256[name][:12], seal.digest(path)[:12]
    assert f"{pack.folder} is damaged ({name} was changed: its fingerprint is {now} and was {was})" in str(caught.value)
    assert "remove the folder, and it is made anew" in str(caught.value)


def test_unchanged_files_are_read_once(config: DataConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("landuse.data.identity.SETTLED_S", -3600)
    read: list[str] = []
    really_digest = seal.digest
    monkeypatch.setattr(seal, "digest", lambda path: read.append(path.name) or really_digest(path))
    pack = prepare(config)
    assert read == []  # just written
    prepare(config)
    assert sorted(read) == sorted(pack.sha256)
    prepare(config)
    assert len(read) == len(pack.sha256)


def test_a_pack_that_was_copied_elsewhere_is_the_same(config: DataConfig) -> None:
    pack = prepare(config)
    for path in pack.folder.glob("*.npy"):
        np.save(path, np.load(path))  # another file of the same content
    settle(pack.folder)
    assert prepare(config).sha256 == pack.sha256


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

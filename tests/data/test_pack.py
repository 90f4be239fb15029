"""Packs: content, fingerprints, atomicity."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from landuse.config.schema import ArchiveConfig, DataConfig, SplitConfig, SyntheticConfig
from landuse.data.pack import channel_statistics, prepare
from landuse.data.synthetic import CLASSES, draw_scene
from landuse.errors import UserError


@pytest.fixture
def config(image_folder: Path, tmp_path: Path) -> DataConfig:
    return DataConfig(name="folder", source="folder", root=str(image_folder), home=str(tmp_path), image_size=16)


def test_pack_holds_the_images(config: DataConfig, image_folder: Path) -> None:
    pack = prepare(config)
    assert pack.classes == ["field", "roof", "water"]
    assert pack.num_images == {"train": 36, "val": 12, "test": 12}
    for name in ("train", "val", "test"):
        split = pack.split(name)
        assert split.images.shape == (pack.num_images[name], 16, 16, 3)
        for image, label, path in zip(split.images, split.labels, split.paths, strict=True):
            assert np.array_equal(image, np.asarray(Image.open(image_folder / path)))
            assert path.startswith(pack.classes[label] + "/")


def test_statistics_come_from_the_training_split_alone(config: DataConfig) -> None:
    pack = prepare(config)
    images = pack.split("train").images / 255
    assert np.allclose(pack.mean, images.mean(axis=(0, 1, 2)), atol=1e-12)
    assert np.allclose(pack.std, images.std(axis=(0, 1, 2)), atol=1e-12)


def test_statistics_of_a_constant_channel_stay_usable() -> None:
    mean, std = channel_statistics(np.full((2, 4, 4, 3), 255, dtype=np.uint8))
    assert mean == [1.0, 1.0, 1.0]
    assert min(std) > 0


def test_second_call_finds_the_pack(config: DataConfig) -> None:
    folder = prepare(config).folder
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert prepare(config).folder == folder
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_fingerprint_depends_on_what_matters(config: DataConfig, tmp_path: Path) -> None:
    pack = prepare(config)
    assert prepare(replace(config, home=str(tmp_path / "elsewhere"))).data_fingerprint == pack.data_fingerprint
    assert prepare(replace(config, image_size=8)).data_fingerprint != pack.data_fingerprint
    other = prepare(replace(config, split=SplitConfig(seed=1)))
    assert other.data_fingerprint != pack.data_fingerprint
    assert other.split_fingerprint != pack.split_fingerprint


def test_a_changed_image_makes_another_pack(config: DataConfig, image_folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(image_folder, tmp_path / "copy")
    same = prepare(replace(config, root=str(copy)))
    assert same.data_fingerprint == prepare(config).data_fingerprint
    Image.new("RGB", (16, 16)).save(next(copy.glob("roof/*.png")))
    assert prepare(replace(config, root=str(copy))).data_fingerprint != same.data_fingerprint


def test_max_images_is_a_balanced_prefix(config: DataConfig) -> None:
    split = prepare(replace(config, max_images=6)).split("train")
    assert len(split) == len(split.images) == len(split.paths) == 6
    assert np.bincount(split.labels).tolist() == [2, 2, 2]


def test_interrupted_packing_leaves_nothing(config: DataConfig, image_folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(image_folder, tmp_path / "copy")
    broken = next(copy.glob("water/*.png"))
    broken.write_bytes(b"no image")
    with pytest.raises(UserError, match=broken.name):
        prepare(replace(config, root=str(copy), home=str(tmp_path / "home")))
    assert [path for path in (tmp_path / "home" / "packs").iterdir() if path.suffix != ".lock"] == []


def test_damaged_pack_is_named(config: DataConfig) -> None:
    pack = prepare(config)
    rows = list(csv.reader((pack.folder / "index.csv").open()))
    with (pack.folder / "index.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows[:-1])
    with pytest.raises(UserError, match="damaged"):
        pack.split("test")


def test_synthetic_is_drawn_at_the_size(tmp_path: Path) -> None:
    config = DataConfig(home=str(tmp_path), image_size=24, synthetic=SyntheticConfig(images_per_class=5, seed=7))
    split = prepare(config).split("train")
    name, _, file = split.paths[0].partition("/")
    assert np.array_equal(split.images[0], draw_scene(name, 7, int(file[len(name) : -4]), 24))
    assert len(set(split.labels)) == len(CLASSES)


def test_worker_processes_give_the_same_pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = DataConfig(home=str(tmp_path / "a"), image_size=16, synthetic=SyntheticConfig(images_per_class=5))
    alone = prepare(config).split("train").images
    monkeypatch.setattr("landuse.data.pack.FEW", 1)
    shared = prepare(replace(config, home=str(tmp_path / "b"))).split("train").images
    assert np.array_equal(alone, shared)


def test_a_remote_archive_is_not_needed_once_packed(config: DataConfig, tmp_path: Path) -> None:
    """The pinned checksum identifies the pack; nothing listens at the address."""
    digest = "ab" * 32
    remote = ArchiveConfig(url="http://127.0.0.1:9/x.zip", sha256=digest)
    config = replace(config, source="archive", archive=remote)
    with pytest.raises(UserError, match="could not be downloaded"):
        prepare(config)
    made = prepare(replace(config, source="folder"))
    from landuse.data import pack as module

    folder = module._folder(tmp_path, config, module._fingerprint(f"sha256:{digest}", config))
    made.folder.rename(folder)
    assert prepare(config).folder == folder


def test_real_archive_with_given_lists(real_data: Path, tmp_path: Path) -> None:
    checksum = "sha256:6748488b12e9241b8e85fa4c9479aba6b846e346556bfbbd260fa2e337a08fe0"
    config = DataConfig(
        name="ucmerced",
        source="archive",
        home=str(tmp_path),
        image_size=16,
        archive=ArchiveConfig(url=(real_data / "UCMerced_LandUse.zip").as_uri(), checksums=[checksum]),
        split=SplitConfig(files=str(real_data / "splits" / "ucmerced")),
    )
    pack = prepare(config)
    assert pack.num_images == {"train": 1260, "val": 420, "test": 420}
    assert len(pack.classes) == 21
    assert json.loads((pack.folder / "pack.json").read_text())["classes"] == pack.classes

"""Packs: content, fingerprints, atomicity."""

import csv
import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import IO

import numpy as np
import pytest
from PIL import Image

from landuse.config.schema import ArchiveConfig, DataConfig, QualityConfig, SplitConfig, SyntheticConfig
from landuse.data import duplicates, identity
from landuse.data.pack import channel_statistics, make, prepare, value_counts
from landuse.data.report.write import write_report
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
    mean, std = channel_statistics(value_counts(np.full((2, 4, 4, 3), 255, dtype=np.uint8)))
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


def test_images_that_cannot_be_used(
    config: DataConfig, image_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """All are found before anything is refused; they are named in the message and listed; or left out."""
    copy = shutil.copytree(image_folder, tmp_path / "copy")
    broken, empty = sorted(copy.glob("water/*.png"))[3:5]
    broken.write_bytes(b"no image")
    empty.write_bytes(b"")
    config = replace(config, root=str(copy), home=str(tmp_path / "home"))
    with pytest.raises(UserError, match=rf"2 of 60 images cannot be used.*{broken.name}.*on_corrupt=skip"):
        prepare(config)
    pack = prepare(replace(config, quality=QualityConfig(on_corrupt="skip")))
    assert sum(pack.num_images.values()) == 58
    assert pack.num_unusable == 2
    listed = json.loads((pack.folder / "quality.json").read_text())["unusable"]
    assert [entry["path"] for entry in listed] == [f"water/{broken.name}", f"water/{empty.name}"]
    assert "the file is empty" in listed[1]["reason"]
    assert "They are left out" in caplog.text
    paths = [path for name in ("train", "val", "test") for path in pack.split(name).paths]
    assert len(set(paths)) == 58
    assert f"water/{broken.name}" not in paths


def test_nothing_but_rubbish(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "root" / name).mkdir(parents=True)
        (tmp_path / "root" / name / "x.png").write_bytes(b"rubbish")
    config = DataConfig(name="f", source="folder", root=str(tmp_path / "root"), home=str(tmp_path / "home"))
    with pytest.raises(UserError, match="None of the 2 images can be used"):
        prepare(config)
    assert list((tmp_path / "home" / "packs").iterdir()) == []


def test_one_image_in_two_classes_is_told(
    config: DataConfig, image_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy = shutil.copytree(image_folder, tmp_path / "copy")
    shutil.copy(copy / "roof" / "roof000.png", copy / "field" / "roof000.png")
    pack = prepare(replace(config, root=str(copy)))
    assert "Images that show the same have two classes (pairs: 1)" in caplog.text
    assert "field/roof000.png and roof/roof000.png" in caplog.text
    page = write_report(pack).read_text(encoding="utf-8")
    assert "one label is wrong, for they have two classes: field/roof000.png and roof/roof000.png." in page


def test_duplicates_stay_together_and_leaks_of_lists_are_reported(
    config: DataConfig, image_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy = shutil.copytree(image_folder, tmp_path / "copy")
    original = Image.open(copy / "roof" / "roof000.png")
    original.transpose(Image.Transpose.ROTATE_90).save(copy / "roof" / "turned.png")
    original.save(copy / "roof" / "same.bmp")
    config = replace(config, root=str(copy))
    pack = prepare(config)
    twins = {"roof/roof000.png", "roof/turned.png", "roof/same.bmp"}
    assert sum(twins <= set(pack.split(name).paths) for name in ("train", "val", "test")) == 1
    with (pack.folder / "index.csv").open(newline="") as file:
        groups = {row["path"]: row["group"] for row in csv.DictReader(file)}
    assert {path for path, group in groups.items() if group} == twins
    found = json.loads((pack.folder / "quality.json").read_text())["duplicates"]
    assert {(pair["first"], pair["second"], pair["exact"]) for pair in found} == {
        ("roof/roof000.png", "roof/same.bmp", True),
        ("roof/roof000.png", "roof/turned.png", False),
    }
    assert pack.num_leaks == {"val": 0, "test": 0}

    lists = tmp_path / "lists"
    shutil.copytree(pack.folder / "split", lists)
    rows = {name: (lists / f"{name}.csv").read_text().splitlines() for name in ("train", "val", "test")}
    for name in rows:
        rows[name] = [row for row in rows[name] if row.partition(",")[0] not in twins]
    rows["train"].append("roof/roof000.png,roof")
    rows["test"] += ["roof/turned.png,roof", "roof/same.bmp,roof"]
    for name, lines in rows.items():
        (lists / f"{name}.csv").write_text("\n".join(lines))
    config = replace(config, split=SplitConfig(files=str(lists)))
    assert prepare(config).num_leaks == {"val": 0, "test": 2}
    assert "leak: 2 of" in caplog.text
    with pytest.raises(UserError, match="leaks: 2 of .* test images"):
        prepare(replace(config, quality=QualityConfig(on_leak="error")))
    moved = prepare(replace(config, quality=QualityConfig(on_leak="move")))
    assert moved.num_leaks == {"val": 0, "test": 0}
    assert twins <= set(moved.split("train").paths)


def test_the_same_data_give_the_same_bytes(config: DataConfig, image_folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(image_folder, tmp_path / "copy")
    one, other = prepare(config), prepare(replace(config, root=str(copy), home=str(tmp_path / "elsewhere")))
    names = sorted(path.relative_to(one.folder) for path in one.folder.rglob("*"))
    assert names == sorted(path.relative_to(other.folder) for path in other.folder.rglob("*"))
    for name in names:
        if (one.folder / name).is_file():
            assert (one.folder / name).read_bytes() == (other.folder / name).read_bytes(), name


def test_a_killed_packing_is_restarted(config: DataConfig, tmp_path: Path) -> None:
    """What a killed process left is never taken for a pack."""
    rest = tmp_path / "packs" / ".folder-16px.tmp"
    rest.mkdir(parents=True)
    (rest / "pack.json").write_text("{}")
    assert prepare(config).num_images["train"] == 36
    assert [path.name for path in (tmp_path / "packs").iterdir()] == [prepare(config).folder.name]


DAMAGES = {
    "pack.json": ["", "[]", '{"format": 3}', "{"],
    "index.csv": ["", "split,row\n", "split,row,path,label,group\n", None],
    "train.npy": ["", "no array", None],
}


@pytest.mark.parametrize(("name", "content"), [(name, text) for name, texts in DAMAGES.items() for text in texts])
def test_damaged_pack_is_named(config: DataConfig, name: str, content: str | None) -> None:
    path = prepare(config).folder / name
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    with pytest.raises(UserError, match=f"The pack {path.parent} is damaged .*: remove the folder"):
        prepare(config).split("train")


@pytest.mark.parametrize("edit", [lambda a: a[:-1], lambda a: a[:, 1:], lambda a: a.astype(np.int16)])
def test_pack_whose_files_differ(config: DataConfig, edit: Callable[[np.ndarray], np.ndarray]) -> None:
    pack = prepare(config)
    np.save(pack.folder / "val.npy", edit(np.load(pack.folder / "val.npy")))
    with pytest.raises(UserError, match="is damaged .val.npy was changed: its fingerprint is "):
        pack.split("val")


def test_synthetic_is_drawn_at_the_size(tmp_path: Path) -> None:
    config = DataConfig(home=str(tmp_path), image_size=24, synthetic=SyntheticConfig(images_per_class=5, seed=7))
    split = prepare(config).split("train")
    name, _, file = split.paths[0].partition("/")
    assert np.array_equal(split.images[0], draw_scene(name, 7, int(file[len(name) : -4]), 24))
    assert len(set(split.labels)) == len(CLASSES)


def test_worker_processes_give_the_same_pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = DataConfig(home=str(tmp_path / "a"), image_size=16, synthetic=SyntheticConfig(images_per_class=5))
    alone = prepare(config).split("train").images
    monkeypatch.setattr("landuse.data.scan.FEW_DRAWN", 1)
    shared = prepare(replace(config, home=str(tmp_path / "b"))).split("train").images
    assert np.array_equal(alone, shared)


def test_a_remote_archive_is_not_needed_once_packed(config: DataConfig, tmp_path: Path) -> None:
    """The pinned checksum identifies the pack; nothing listens at the address."""
    digest = "ab" * 32
    remote = ArchiveConfig(url="http://127.0.0.1:9/x.zip", sha256=digest, retries=0)
    config = replace(config, source="archive", archive=remote)
    with pytest.raises(UserError, match="could not be downloaded"):
        prepare(config)
    made = prepare(replace(config, source="folder"))
    from landuse.data import pack as module

    folder = module._folder(tmp_path / "packs", config, module._fingerprint(f"sha256:{digest}", config))
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


def test_a_recalled_folder_is_told_apart_by_its_content(config: DataConfig, image_folder: Path, tmp_path: Path) -> None:
    """What is remembered of an unchanged folder spares reading it; when it is read, what was read counts."""
    other = shutil.copytree(image_folder, tmp_path / "other")
    Image.open(other / "roof" / "roof000.png").rotate(90).save(other / "roof" / "roof000.png")
    time.sleep(identity.SETTLED_S + 0.1)
    configs = [replace(config, root=str(root), image_size=size) for size in (16, 12) for root in (image_folder, other)]
    packs = [prepare(config) for config in configs]
    assert len({pack.folder for pack in packs}) == 4
    assert [prepare(config).folder for config in configs] == [pack.folder for pack in packs]
    alone = prepare(replace(configs[3], home=str(tmp_path / "alone")))
    assert alone.data_fingerprint == packs[3].data_fingerprint


def test_of_several_accepted_contents_each_has_its_pack(config: DataConfig, image_folder: Path, tmp_path: Path) -> None:
    smaller = shutil.copytree(image_folder, tmp_path / "smaller")
    shutil.rmtree(smaller / "roof")
    files, checksums = [], []
    for root in (image_folder, smaller):
        files.append(Path(shutil.make_archive(str(tmp_path / root.name), "zip", root)))
        checksums.append(f"sha256:{hashlib.sha256(files[-1].read_bytes()).hexdigest()}")
    configs = [
        replace(config, source="archive", root=None, archive=ArchiveConfig(file.as_uri(), mirrors, None, checksums))
        for file in files
        for mirrors in ([], ["http://127.0.0.1:9/unused.zip"])
    ]
    assert [len(prepare(config).classes) for config in configs] == [3, 3, 2, 2]


def test_a_file_that_cannot_be_read_is_no_finding(
    config: DataConfig, image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be read the next time, and a pack is kept for good."""
    config = replace(config, root=str(image_folder), quality=QualityConfig(on_corrupt="skip"))

    def failing(path: str, mode: str) -> IO[bytes]:
        if path.endswith("roof003.png"):
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)
        return open(path, mode)  # noqa: PTH123

    def exhausted(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr("landuse.data.sources.open", failing, raising=False)
        with pytest.raises(UserError, match=r"roof003.png cannot be read \(Input/output"):
            prepare(config)
    with monkeypatch.context() as patch:
        patch.setattr("landuse.data.decode._to_rgb", exhausted)
        with pytest.raises(MemoryError):
            prepare(config)
    assert prepare(config).num_unusable == 0


@pytest.mark.parametrize("kind", ["a broken link", "a pipe"])
def test_what_is_no_file_is_named(config: DataConfig, image_folder: Path, tmp_path: Path, kind: str) -> None:
    root = shutil.copytree(image_folder, tmp_path / "copy")
    path = root / "roof" / "odd.png"
    if kind == "a pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("nowhere.png")
    with pytest.raises(UserError, match=r"roof/odd.png cannot be read"):
        prepare(replace(config, root=str(root)))


def test_names_that_are_no_utf8(config: DataConfig, image_folder: Path, tmp_path: Path) -> None:
    root = shutil.copytree(image_folder, tmp_path / "copy")
    (root / "roof" / "roof000.png").rename(os.fsdecode(os.fsencode(root / "roof") + b"/caf\xe9.png"))
    (root / "roof" / os.fsdecode(b"gr\xfcn.png")).write_bytes(b"")
    config = replace(config, root=str(root))
    pack = make(config)  # says nothing, for pytest's own log takes no such names
    paths = [path for name in ("train", "val", "test") for path in pack.split(name).paths]
    assert os.fsdecode(b"roof/caf\xe9.png") in paths and len(paths) == 60
    found = json.loads((pack.folder / "quality.json").read_text())
    assert [image["path"] for image in found["unusable"]] == [os.fsdecode(b"roof/gr\xfcn.png")]


def test_lists_that_change_while_images_are_packed(
    config: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lists = shutil.copytree(prepare(config).folder / "split", tmp_path / "lists")
    config = replace(config, split=SplitConfig(files=str(lists)))

    def editing(*arguments: object) -> object:
        (lists / "val.csv").write_text((lists / "val.csv").read_text() + "\n")
        return duplicates.find_pairs(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr("landuse.data.pack.find_pairs", editing)
        with pytest.raises(UserError, match="changed in the meantime"):
            prepare(config)
    assert prepare(config).num_images["val"] > 0


def test_a_pack_that_was_not_removed_whole_is_made_anew(config: DataConfig) -> None:
    pack = prepare(config)
    (pack.folder / "pack.json").unlink()
    assert prepare(config).folder == pack.folder


def test_a_pack_cut_short_is_named(config: DataConfig) -> None:
    pack = prepare(config)
    path = pack.folder / "train.npy"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match="is damaged .*remove the folder"):
        pack.split("train")


def test_a_script_without_guard_is_told_so(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from landuse.config.schema import DataConfig, SyntheticConfig\n"
        "from landuse.data.pack import prepare\n"
        f"prepare(DataConfig(home={str(tmp_path / 'data')!r}, synthetic=SyntheticConfig(images_per_class=13)))\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=100)
    assert done.returncode == 1
    assert 'put the call under if __name__ == "__main__":' in done.stderr

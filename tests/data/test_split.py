"""Splits by fractions and by given lists."""

from collections import Counter
from pathlib import Path

import pytest

from landuse.config.schema import SplitConfig
from landuse.data.sources import class_of
from landuse.data.split import SPLITS, fingerprint, split_images, split_spec
from landuse.errors import UserError

PATHS = [f"{name}/{name}{i:02d}.tif" for name in ("a", "b", "c") for i in range(20)]


def names(paths: list[str], config: SplitConfig) -> dict[str, set[str]]:
    return {name: {paths[i] for i in members} for name, members in split_images(paths, config).items()}


def write_lists(folder: Path, **lists: list[str]) -> SplitConfig:
    for name in SPLITS:
        (folder / f"{name}.csv").write_text("\n".join(lists[name]) + "\n")
    return SplitConfig(files=str(folder))


def test_fractions_are_stratified_and_complete() -> None:
    split = split_images(PATHS, SplitConfig())
    assert sorted(i for members in split.values() for i in members) == list(range(len(PATHS)))
    for name, count in (("train", 12), ("val", 4), ("test", 4)):
        assert Counter(class_of(PATHS[i]) for i in split[name]) == {"a": count, "b": count, "c": count}


def test_independent_of_order_and_extension() -> None:
    expected = names(PATHS, SplitConfig(seed=3))
    assert names(PATHS[::-1], SplitConfig(seed=3)) == expected
    as_jpg = [path.replace(".tif", ".jpg") for path in PATHS]
    assert fingerprint(as_jpg, split_images(as_jpg, SplitConfig(seed=3))) == fingerprint(
        PATHS, split_images(PATHS, SplitConfig(seed=3))
    )


def test_seed_changes_the_split() -> None:
    assert names(PATHS, SplitConfig(seed=1)) != names(PATHS, SplitConfig(seed=2))


def test_adding_an_image_moves_few_others() -> None:
    before, after = names(PATHS, SplitConfig()), names([*PATHS, "a/new.tif"], SplitConfig())
    moved = sum(len(before[name] - after[name]) for name in SPLITS)
    assert moved <= 2


@pytest.mark.parametrize("fractions", [[0.5, 0.25, 0.25], [0.7, 0.15, 0.15], [0.34, 0.33, 0.33]])
def test_counts_sum_up(fractions: list[float]) -> None:
    split = split_images(PATHS, SplitConfig(fractions=fractions))
    assert sum(map(len, split.values())) == len(PATHS)


def test_any_prefix_is_balanced() -> None:
    train = split_images(PATHS, SplitConfig())["train"]
    for n in range(1, len(train)):
        counts = Counter(class_of(PATHS[i]) for i in train[:n])
        assert max(counts.values()) - min(counts.get(name, 0) for name in "abc") <= 1


def test_given_lists_ignore_extension_and_leave_out_the_rest(tmp_path: Path) -> None:
    config = write_lists(
        tmp_path, train=["path,label", "a/a00.jpg,a", "b/b00,b"], val=["./a/a01.tif,a"], test=["b\\b01.png,b"]
    )
    assert names(PATHS, config) == {"train": {PATHS[0], PATHS[20]}, "val": {PATHS[1]}, "test": {PATHS[21]}}


def test_spec_follows_the_lists_content(tmp_path: Path) -> None:
    config = write_lists(tmp_path, train=["a/a00,a"], val=["a/a01,a"], test=["a/a02,a"])
    before = split_spec(config)
    write_lists(tmp_path, train=["a/a00,a"], val=["a/a01,a"], test=["a/a03,a"])
    assert split_spec(config) != before


@pytest.mark.parametrize(
    ("test_rows", "message"),
    [
        (["a/zzz.tif,a"], r"test.csv, line 1: the dataset has no image 'a/zzz.tif'"),
        (["a/a00.tif,a"], r"test.csv, line 1: 'a/a00.tif' is already in train.csv"),
        (["a/a05.tif,b"], r"listed as 'b' but lies in 'a'"),
        (["a/a05.tif"], r"expected 'relative/path,label', found 1 fields"),
        ([""], "The test split is empty"),
        (["c/c00.tif,c"], "No training image of class c"),
    ],
)
def test_faulty_lists(tmp_path: Path, test_rows: list[str], message: str) -> None:
    config = write_lists(tmp_path, train=["a/a00.tif,a", "b/b00.tif,b"], val=["a/a01.tif,a"], test=test_rows)
    with pytest.raises(UserError, match=message):
        split_images(PATHS, config)


def test_lists_cannot_tell_extensions_apart(tmp_path: Path) -> None:
    config = write_lists(tmp_path, train=["a/x,a"], val=["a/y,a"], test=["a/z,a"])
    with pytest.raises(UserError, match="differ only in their extension"):
        split_images(["a/x.jpg", "a/x.png", "a/y.jpg", "a/z.jpg"], config)


def test_too_few_images() -> None:
    with pytest.raises(UserError, match="split is empty"):
        split_images(["a/1.png", "b/1.png"], SplitConfig())

"""Splits by fractions, folds and given lists; groups; leaks."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from landuse.config.schema import DataConfig, QualityConfig, SplitConfig
from landuse.data.sources import class_of
from landuse.data.split import SPLITS, Split, fingerprint, leaks, read_groups, split_images, split_spec, write_lists
from landuse.errors import UserError

PATHS = [f"{name}/{name}{i:02d}.tif" for name in ("a", "b", "c") for i in range(20)]


def divided(paths: list[str], config: SplitConfig, groups: Sequence[int] | None = None, on_leak: str = "warn") -> Split:
    everything = range(len(paths))
    quality = QualityConfig(on_leak=on_leak)
    return split_images(paths, everything, groups or everything, DataConfig(split=config, quality=quality))


def names(paths: list[str], config: SplitConfig) -> dict[str, set[str]]:
    return {name: {paths[i] for i in members} for name, members in divided(paths, config).items()}


def lists(folder: Path, **rows: list[str]) -> SplitConfig:
    for name in SPLITS:
        (folder / f"{name}.csv").write_text("\n".join(rows[name]) + "\n")
    return SplitConfig(files=str(folder))


def test_fractions_are_stratified_and_complete() -> None:
    split = divided(PATHS, SplitConfig())
    assert sorted(i for members in split.values() for i in members) == list(range(len(PATHS)))
    for name, count in (("train", 12), ("val", 4), ("test", 4)):
        assert Counter(class_of(PATHS[i]) for i in split[name]) == {"a": count, "b": count, "c": count}


def test_independent_of_order_and_extension() -> None:
    expected = names(PATHS, SplitConfig(seed=3))
    assert names(PATHS[::-1], SplitConfig(seed=3)) == expected
    as_jpg = [path.replace(".tif", ".jpg") for path in PATHS]
    assert fingerprint(as_jpg, divided(as_jpg, SplitConfig(seed=3))) == fingerprint(
        PATHS, divided(PATHS, SplitConfig(seed=3))
    )


def test_seed_changes_the_split() -> None:
    assert names(PATHS, SplitConfig(seed=1)) != names(PATHS, SplitConfig(seed=2))


def test_adding_an_image_moves_few_others() -> None:
    before, after = names(PATHS, SplitConfig()), names([*PATHS, "a/new.tif"], SplitConfig())
    moved = sum(len(before[name] - after[name]) for name in SPLITS)
    assert moved <= 2


@pytest.mark.parametrize("fractions", [[0.5, 0.25, 0.25], [0.7, 0.15, 0.15], [0.34, 0.33, 0.33]])
def test_counts_sum_up(fractions: list[float]) -> None:
    split = divided(PATHS, SplitConfig(fractions=fractions))
    assert sum(map(len, split.values())) == len(PATHS)


def test_any_prefix_is_balanced() -> None:
    train = divided(PATHS, SplitConfig())["train"]
    for n in range(1, len(train)):
        counts = Counter(class_of(PATHS[i]) for i in train[:n])
        assert max(counts.values()) - min(counts.get(name, 0) for name in "abc") <= 1


def test_given_lists_ignore_extension_and_leave_out_the_rest(tmp_path: Path) -> None:
    config = lists(
        tmp_path, train=["path,label", "a/a00.jpg,a", "b/b00,b"], val=["./a/a01.tif,a"], test=["b\\b01.png,b"]
    )
    assert names(PATHS, config) == {"train": {PATHS[0], PATHS[20]}, "val": {PATHS[1]}, "test": {PATHS[21]}}


def test_spec_follows_the_lists_content(tmp_path: Path) -> None:
    config = lists(tmp_path, train=["a/a00,a"], val=["a/a01,a"], test=["a/a02,a"])
    before = split_spec(DataConfig(split=config))
    lists(tmp_path, train=["a/a00,a"], val=["a/a01,a"], test=["a/a03,a"])
    assert split_spec(DataConfig(split=config)) != before


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
    config = lists(tmp_path, train=["a/a00.tif,a", "b/b00.tif,b"], val=["a/a01.tif,a"], test=test_rows)
    with pytest.raises(UserError, match=message):
        divided(PATHS, config)


def test_images_that_differ_only_in_their_extension(tmp_path: Path) -> None:
    paths = ["a/x.jpg", "a/x.png", "a/y.jpg", "a/z.jpg"]
    config = lists(tmp_path, train=["a/x,a"], val=["a/y,a"], test=["a/z,a"])
    with pytest.raises(UserError, match="train.csv, line 1: 'a/x' may be one of 2 images: name it with its extension"):
        divided(paths, config)
    config = lists(tmp_path, train=["a/x.png,a"], val=["a/y,a"], test=["a/x.jpg,a"])
    assert divided(paths, config) == {"train": [1], "val": [2], "test": [0]}


def test_too_few_images() -> None:
    with pytest.raises(UserError, match="split is empty"):
        divided(["a/1.png", "b/1.png"], SplitConfig())


def grouped(size: int) -> list[int]:
    """Groups of ``size`` neighbours within each class of 20."""
    return [i - i % 20 % size for i in range(len(PATHS))]


@pytest.mark.parametrize("size", [2, 4, 5, 20])
@pytest.mark.parametrize("seed", range(3))
def test_a_group_is_never_divided(size: int, seed: int) -> None:
    groups = grouped(size)
    config = SplitConfig(fractions=[0.6, 0.2, 0.2], seed=seed) if size < 20 else SplitConfig(folds=3, seed=seed)
    if size == 20:  # three groups, one of each class: no training split has all classes, and it says so
        with pytest.raises(UserError, match="split is empty|No training image"):
            divided(PATHS, config, groups)
        return
    split = divided(PATHS, config, groups)
    assert leaks(split, groups) == []
    assert sorted(i for members in split.values() for i in members) == list(range(len(PATHS)))
    for name, count in (("train", 12), ("val", 4), ("test", 4)):
        for counted in Counter(class_of(PATHS[i]) for i in split[name]).values():
            assert abs(counted - count) < size


def test_groups_do_not_depend_on_the_order_of_files() -> None:
    groups = grouped(4)
    backwards = PATHS[::-1]
    number_of = {path: groups[i] for i, path in enumerate(PATHS)}
    expected = {name: {PATHS[i] for i in members} for name, members in divided(PATHS, SplitConfig(), groups).items()}
    split = divided(backwards, SplitConfig(), [number_of[path] for path in backwards])
    assert {name: {backwards[i] for i in members} for name, members in split.items()} == expected


def test_duplicates_go_to_every_split() -> None:
    """Were they always dealt to the largest, its share of them would be no fair one."""
    groups = grouped(2)
    groups[20:] = range(20, 60)
    homes = Counter(
        name for seed in range(20) for name, members in divided(PATHS, SplitConfig(seed=seed), groups).items()
        if any(i < 20 for i in members)
    )  # fmt: skip
    assert set(homes) == set(SPLITS)


def test_folds_cover_every_image_once_and_keep_groups() -> None:
    groups = grouped(2)
    tests = []
    for fold in range(5):
        split = divided(PATHS, SplitConfig(folds=5, fold=fold), groups)
        assert [len(split[name]) for name in SPLITS] == [36, 12, 12]
        assert leaks(split, groups) == []
        tests += split["test"]
    assert sorted(tests) == list(range(len(PATHS)))


@pytest.mark.parametrize(("num_classes", "per_class", "folds"), [(100, 4, 3), (100, 3, 5), (7, 10, 4)])
def test_folds_are_of_equal_size(num_classes: int, per_class: int, folds: int) -> None:
    """What a class cannot share equally goes to other folds than the next class's."""
    paths = [f"c{c}/{i}.png" for c in range(num_classes) for i in range(per_class)]
    everyone = range(len(paths))
    sizes = [
        len(split_images(paths, everyone, everyone, DataConfig(split=SplitConfig(folds=folds, fold=fold)))["test"])
        for fold in range(folds)
    ]
    assert sum(sizes) == len(paths) and max(sizes) - min(sizes) <= 1


def test_a_class_missing_from_a_split_is_said(caplog: pytest.LogCaptureFixture) -> None:
    paths = [f"{name}/{i}.png" for name in "ab" for i in range(10)]
    groups = [i if path.startswith("a") else 10 for i, path in enumerate(paths)]
    split_images(paths, range(20), groups, DataConfig())
    assert "no image of class b in the val split" in caplog.text


def test_odd_names_in_lists(tmp_path: Path) -> None:
    paths = ["a/scene.01.png", "a/two\u2028lines\n.png", 'a/"x", y.png', " b /1.png", "\\b/2.png", "\rb/3.png"]
    paths += [f"{name}/4.png" for name in (" b ", "\\b", "\rb")]
    given = {"train": [0, 3, 7, 8], "val": [1, 4], "test": [2, 5, 6]}
    write_lists(tmp_path / "lists", paths, given)
    config = DataConfig(split=SplitConfig(files=str(tmp_path / "lists")))
    everyone = range(len(paths))
    assert {k: sorted(v) for k, v in split_images(paths, everyone, everyone, config).items()} == given
    content = (tmp_path / "lists" / "train.csv").read_bytes()
    (tmp_path / "lists" / "train.csv").write_bytes(content.replace(b"scene.01.png", b"scene.01"))
    assert sorted(split_images(paths, everyone, everyone, config)["train"]) == given["train"]


def test_leaks_of_given_lists(tmp_path: Path) -> None:
    """a00 to a03 show the same; they are listed in all three splits."""
    config = lists(
        tmp_path,
        train=["a/a00,a", "b/b00,b", "a/a05,a"],
        val=["a/a01,a", "b/b01,b"],
        test=["a/a02,a", "a/a03,a", "b/b02,b"],
    )
    groups = grouped(4)
    groups[20:] = range(20, 60)
    split = divided(PATHS, config, groups)
    found = {(PATHS[leak.image], leak.split, PATHS[leak.twin], leak.twin_split) for leak in leaks(split, groups)}
    assert found == {
        ("a/a01.tif", "val", "a/a00.tif", "train"),
        ("a/a02.tif", "test", "a/a00.tif", "train"),
        ("a/a03.tif", "test", "a/a00.tif", "train"),
    }
    moved = divided(PATHS, config, groups, on_leak="move")
    assert leaks(moved, groups) == []
    assert {PATHS[i] for i in moved["train"]} == {PATHS[i] for i in (0, 1, 2, 3, 5, 20)}
    assert {PATHS[i] for i in moved["test"]} == {"b/b02.tif"}
    specs = {split_spec(DataConfig(split=config, quality=QualityConfig(on_leak=how))) for how in ("warn", "move")}
    assert len(specs) == 2


def test_unusable_images_are_left_out_of_given_lists(tmp_path: Path) -> None:
    config = lists(tmp_path, train=["a/a00,a", "a/a01,a"], val=["a/a02,a"], test=["a/a03,a"])
    usable = [i for i in range(len(PATHS)) if i != 1]
    assert split_images(PATHS, usable, range(len(PATHS)), DataConfig(split=config))["train"] == [0]


def test_written_lists_give_the_same_split(tmp_path: Path) -> None:
    split = divided(PATHS, SplitConfig(seed=5))
    write_lists(tmp_path / "split", PATHS, split)
    again = divided(PATHS, SplitConfig(files=str(tmp_path / "split")))
    assert fingerprint(PATHS, again) == fingerprint(PATHS, split)


def test_groups_of_the_user(tmp_path: Path) -> None:
    table = tmp_path / "groups.csv"
    table.write_text("path,group\na/a00.tif,scene 1\nb/b00,scene 2\na/a07,scene 1\na/a09,scene 1\n")
    assert read_groups(PATHS, table) == [(0, 0), (20, 20), (0, 7), (0, 9)]
    table.write_text("a/zzz,scene 1\n")
    with pytest.raises(UserError, match="line 1: the dataset has no image 'a/zzz'"):
        read_groups(PATHS, table)

"""Dividing images into train, val and test: by given lists, or by seeded, stratified fractions."""

import csv
import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from landuse.config.schema import SplitConfig
from landuse.data.sources import class_of
from landuse.errors import UserError

SPLITS = ("train", "val", "test")
Split = dict[str, list[int]]  # split -> indices into the source's paths


def split_images(paths: Sequence[str], config: SplitConfig) -> Split:
    """Assign every path ("class/name.ext") to one split; given files leave out the images they do not list.

    Within a split the order is such that every prefix is as balanced over the classes as can be, so that the first n
    images are a fair sample.

    Raises:
        UserError: a listed image does not exist, is listed twice or under another class, or a split has no image of
            any class or the training split misses one.
    """
    split = _from_files(paths, Path(config.files)) if config.files else _by_fractions(paths, config)
    classes = {class_of(paths[i]) for name in SPLITS for i in split[name]}
    for name in SPLITS:
        if not split[name]:
            raise UserError(f"The {name} split is empty: more images or other data.split.fractions are needed.")
    if missing := classes - {class_of(paths[i]) for i in split["train"]}:
        raise UserError(f"No training image of class {', '.join(sorted(missing))}: add images or change data.split.")
    seed = 0 if config.files else config.seed  # given lists determine everything, the order included
    return {name: _balanced_order(paths, split[name], seed) for name in SPLITS}


def split_spec(config: SplitConfig) -> str:
    """Text that determines the split of a given source: the content of the lists, or fractions and seed."""
    if config.files is None:
        return f"fractions={list(config.fractions)},seed={config.seed}"
    contents = [(Path(config.files) / f"{name}.csv").read_bytes() for name in SPLITS]
    return "files=" + hashlib.sha256(b"\0".join(contents)).hexdigest()


def fingerprint(paths: Sequence[str], split: Split) -> str:
    """SHA-256 over the sorted lines "split,class/name" (no extension): who is where, whatever the file format."""
    lines = sorted(f"{name},{_key(paths[i])}" for name in SPLITS for i in split[name])
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _key(path: str) -> str:
    """The path without its extension: lists made for tif files serve their jpg copies too."""
    folder, _, name = path.rpartition("/")
    stem = name.rpartition(".")[0] or name
    return f"{folder}/{stem}" if folder else stem


def _from_files(paths: Sequence[str], folder: Path) -> Split:
    index = {_key(path): i for i, path in enumerate(paths)}
    if len(index) < len(paths):
        twice = next(key for key, count in Counter(map(_key, paths)).items() if count > 1)
        raise UserError(
            f"Two images differ only in their extension ({twice}), so data.split.files cannot tell them apart."
        )
    where: dict[int, str] = {}
    split: Split = {name: [] for name in SPLITS}
    for name in SPLITS:
        file = folder / f"{name}.csv"
        for line, (path, label) in _rows(file):
            i = index.get(_key(path))
            if i is None:
                raise UserError(f"{file}, line {line}: the dataset has no image '{path}' (extension ignored).")
            if class_of(paths[i]) != label:
                raise UserError(
                    f"{file}, line {line}: '{path}' is listed as '{label}' but lies in '{class_of(paths[i])}'."
                )
            if i in where:
                raise UserError(
                    f"{file}, line {line}: '{path}' is already in {where[i]}.csv; no image may appear twice."
                )
            where[i] = name
            split[name].append(i)
    return split


def _rows(file: Path) -> list[tuple[int, tuple[str, str]]]:
    try:
        table = list(csv.reader(file.read_text(encoding="utf-8-sig").splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file} cannot be read as UTF-8 text with commas ({error}).") from error
    rows = []
    for line, row in enumerate(table, start=1):
        if not row or (
            line == 1 and row[0].strip().lower() in ("path", "relative/path", "image", "image_path", "filename")
        ):
            continue
        if len(row) != 2:
            raise UserError(f"{file}, line {line}: expected 'relative/path,label', found {len(row)} fields.")
        rows.append((line, (row[0].strip().replace("\\", "/").removeprefix("./"), row[1].strip())))
    return rows


def _by_fractions(paths: Sequence[str], config: SplitConfig) -> Split:
    by_class: dict[str, list[int]] = defaultdict(list)
    for i, path in enumerate(paths):
        by_class[class_of(path)].append(i)
    split: Split = {name: [] for name in SPLITS}
    for members in by_class.values():
        members.sort(key=lambda i: _rank(paths[i], config.seed))
        start = 0
        for name, count in zip(SPLITS, _counts(len(members), config.fractions), strict=True):
            split[name] += members[start : start + count]
            start += count
    return split


def _counts(total: int, fractions: Sequence[float]) -> list[int]:
    """Whole numbers that sum to ``total``, nearest to the fractions (largest remainder; ties to the earlier split)."""
    exact = [total * fraction for fraction in fractions]
    counts = [int(value + 1e-9) for value in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: (-(round(exact[i] - counts[i], 9)), i))
    for i in by_remainder[: total - sum(counts)]:
        counts[i] += 1
    return counts


def _balanced_order(paths: Sequence[str], members: list[int], seed: int) -> list[int]:
    seen: Counter[str] = Counter()
    ranked = []
    for i in sorted(members, key=lambda i: _rank(paths[i], seed)):
        ranked.append((seen[class_of(paths[i])], class_of(paths[i]), i))
        seen[class_of(paths[i])] += 1
    return [i for _, _, i in sorted(ranked)]


def _rank(path: str, seed: int) -> bytes:
    """A seeded pseudo-random rank that depends on nothing but the image's name: not on order, platform or version."""
    return hashlib.sha256(f"{seed}:{_key(path)}".encode()).digest()

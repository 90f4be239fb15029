"""Dividing images into train, val and test: by given lists, by seeded and stratified fractions, or into folds.

Images that show the same are kept together: the unit that is dealt out is the group, not the image.
"""

import csv
import hashlib
import io
import logging
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from landuse.config.schema import DataConfig
from landuse.data.sources import class_of
from landuse.errors import UserError

log = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")
Split = dict[str, list[int]]  # split -> indices into the source's paths


@dataclass(frozen=True)
class Leak:
    """An image of val or test that shows what an image of an earlier split shows."""

    image: int
    split: str  # val or test
    twin: int
    twin_split: str  # train or val


def split_images(paths: Sequence[str], usable: Sequence[int], groups: Sequence[int], config: DataConfig) -> Split:
    """Assign images to splits; given lists leave out those that they do not name.

    Within a split the order is such that every prefix is as balanced over the classes as can be, so that the first n
    images are a fair sample.

    Args:
        paths: "class/name.ext" of every image of the source.
        usable: indices of the images to divide.
        groups: for every path the number of its group; fractions and folds never divide a group.

    Raises:
        UserError: a listed image does not exist, is listed twice or under another class, or a split has no image of
            any class or the training split misses one.
    """
    options = config.split
    if options.files is not None:
        split = _from_files(paths, frozenset(usable), Path(options.files))
        if config.quality.on_leak == "move":
            split = _moved(split, groups)
    elif options.folds is not None:
        if options.folds > len(usable):
            raise UserError(f"data.split.folds={options.folds} is more than there are images ({len(usable)}).")
        folds = _deal(paths, usable, groups, [1 / options.folds] * options.folds, options.seed, take_turns=True)
        test, val = options.fold, (options.fold + 1) % options.folds
        train = [i for number, fold in enumerate(folds) if number not in (test, val) for i in fold]
        split = {"train": train, "val": folds[val], "test": folds[test]}
    else:
        split = dict(zip(SPLITS, _deal(paths, usable, groups, options.fractions, options.seed), strict=True))
    classes = {class_of(paths[i]) for name in SPLITS for i in split[name]}
    for name in SPLITS:
        if not split[name]:
            raise UserError(f"The {name} split is empty: more images or other data.split settings are needed.")
    for name in SPLITS:
        if missing := ", ".join(sorted(classes - {class_of(paths[i]) for i in split[name]})):
            if name == "train":
                raise UserError(f"No training image of class {missing}: add images or change data.split.")
            log.warning("no image of class %s in the %s split", missing, name)
    seed = 0 if options.files else options.seed  # given lists determine everything, the order included
    return {name: _balanced_order(paths, split[name], seed) for name in SPLITS}


def leaks(split: Split, groups: Sequence[int]) -> list[Leak]:
    """Every image of val and test with a member of its group in an earlier split, and the first such member."""
    first: dict[int, tuple[int, str]] = {}
    found = []
    for name in SPLITS:
        for i in split[name]:
            twin, twin_split = first.get(groups[i], (i, name))
            if twin_split != name:
                found.append(Leak(i, name, twin, twin_split))
        for i in split[name]:
            first.setdefault(groups[i], (i, name))
    return found


def split_spec(config: DataConfig) -> str:
    """Text that determines the split of a given source: the content of the lists, or fractions or folds and seed."""
    options, content = config.split, digests(config)
    together = f"together={config.quality.duplicates}"
    if "groups" in content:
        together += f",groups={content['groups']}"
    if "files" in content:
        moved = ",moved" if config.quality.on_leak == "move" else ""
        return f"files={content['files']}{moved},{together}"
    if options.folds is not None:
        return f"fold={options.fold}/{options.folds},seed={options.seed},{together}"
    return f"fractions={list(options.fractions)},seed={options.seed},{together}"


def digests(config: DataConfig) -> dict[str, str]:
    """SHA-256 of the user's own lists (``data.split.files``) and groups, where there are any."""
    options = config.split
    named = {
        "files": [Path(options.files) / f"{name}.csv" for name in SPLITS] if options.files is not None else [],
        "groups": [Path(options.groups)] if options.groups is not None else [],
    }
    return {key: _digest(files) for key, files in named.items() if files}


def _digest(files: Sequence[Path]) -> str:
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


def read_groups(paths: Sequence[str], file: Path) -> list[tuple[int, int]]:
    """Links between images that a user's table says belong together, such as tiles of one scene.

    Raises:
        UserError: the table cannot be read or names an image that does not exist.
    """
    images = _Images(paths)
    first: dict[str, int] = {}
    links = []
    for line, (path, group) in _rows(file, "path,group"):
        i = images.find(path, f"{file}, line {line}")
        if not group.strip():
            raise UserError(f"{file}, line {line}: '{path}' has no group.")
        links.append((first.setdefault(group, i), i))
    return links


def write_lists(folder: Path, paths: Sequence[str], split: Split) -> None:
    """Write train.csv, val.csv and test.csv, lines "class/name.ext,class": a folder for ``data.split.files``."""
    folder.mkdir()
    for name in SPLITS:
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            csv.writer(file).writerows([paths[i], class_of(paths[i])] for i in sorted(split[name]))


def fingerprint(paths: Sequence[str], split: Split) -> str:
    """SHA-256 over the sorted lines "split,class/name" (no extension): who is where, whatever the file format."""
    lines = sorted(f"{name},{_key(paths[i])}" for name in SPLITS for i in split[name])
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()


def _key(path: str) -> str:
    """The path without its extension: lists made for tif files serve their jpg copies too."""
    folder, _, name = path.rpartition("/")
    stem = name.rpartition(".")[0] or name
    return f"{folder}/{stem}" if folder else stem


class _Images:
    """Finds the images that a list names: as they are called, or with another extension or none."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._exact = {path: i for i, path in enumerate(paths)}
        self._by_key: dict[str, list[int]] = defaultdict(list)
        for i, path in enumerate(paths):
            self._by_key[_key(path)].append(i)

    def find(self, path: str, where: str) -> int:
        """
        Args:
            where: names the line, for messages.

        Raises:
            UserError: there is no such image, or it may be one of several.
        """
        lenient = path.strip().replace("\\", "/").removeprefix("./")
        for name in (path, lenient):
            if name in self._exact:
                return self._exact[name]
        for name in (_key(path), path, _key(lenient), lenient):
            found = self._by_key.get(name, [])
            if len(found) > 1:
                raise UserError(f"{where}: '{path}' may be one of {len(found)} images: name it with its extension.")
            if found:
                return found[0]
        raise UserError(f"{where}: the dataset has no image '{path}' (extension ignored).")


def _from_files(paths: Sequence[str], usable: Collection[int], folder: Path) -> Split:
    images = _Images(paths)
    where: dict[int, str] = {}
    split: Split = {name: [] for name in SPLITS}
    for name in SPLITS:
        file = folder / f"{name}.csv"
        for line, (path, label) in _rows(file, "relative/path,label"):
            i = images.find(path, f"{file}, line {line}")
            if class_of(paths[i]) not in (label, label.strip()):
                raise UserError(
                    f"{file}, line {line}: '{path}' is listed as '{label}' but lies in '{class_of(paths[i])}'."
                )
            if i in where:
                raise UserError(
                    f"{file}, line {line}: '{path}' is already in {where[i]}.csv; no image may appear twice."
                )
            where[i] = name
            if i in usable:
                split[name].append(i)
    return split


def _rows(file: Path, columns: str) -> list[tuple[int, tuple[str, str]]]:
    try:
        table = list(csv.reader(io.StringIO(file.read_bytes().decode("utf-8-sig"), newline="")))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file} cannot be read as UTF-8 text with commas ({error}).") from error
    rows = []
    for line, row in enumerate(table, start=1):
        if not row or (
            line == 1 and row[0].strip().lower() in ("path", "relative/path", "image", "image_path", "filename")
        ):
            continue
        if len(row) != 2:
            raise UserError(f"{file}, line {line}: expected '{columns}', found {len(row)} fields.")
        rows.append((line, (row[0], row[1])))
    return rows


def _moved(split: Split, groups: Sequence[int]) -> Split:
    """Every group whole in the first split that has a member of it: val and test only lose images."""
    home: dict[int, str] = {}
    for name in SPLITS:
        for i in split[name]:
            home.setdefault(groups[i], name)
    return {name: [i for members in split.values() for i in members if home[groups[i]] == name] for name in SPLITS}


def _deal(
    paths: Sequence[str],
    usable: Sequence[int],
    groups: Sequence[int],
    shares: Sequence[float],
    seed: int,
    take_turns: bool = False,
) -> list[list[int]]:
    """Deal groups into as many parts as there are shares, class by class as near to the shares as groups allow.

    Groups of several images go first, the largest foremost, each to a part drawn by its seeded rank, or to the one with
    most room if that one is full. Single images then fill every part up to its exact count.

    Args:
        take_turns: what cannot be shared equally goes to other parts from class to class.
    """
    members: dict[int, list[int]] = defaultdict(list)
    for i in usable:
        members[groups[i]].append(i)
    rank = {number: min(_rank(paths[i], seed) for i in group) for number, group in members.items()}
    ordered = sorted(members, key=lambda number: (-len(members[number]), rank[number]))
    totals = Counter(class_of(paths[i]) for i in usable)
    room, first = {}, 0
    for name in sorted(totals):
        room[name] = _counts(totals[name], shares, first)
        first += totals[name] % len(shares) if take_turns else 0
    parts: list[list[int]] = [[] for _ in shares]
    for number in ordered:
        group = members[number]
        needs = Counter(class_of(paths[i]) for i in group)
        part = _part_for(needs, room, shares, rank[number] if len(group) > 1 else None)
        parts[part] += group
        for i in group:
            room[class_of(paths[i])][part] -= 1
    return parts


def _part_for(needs: Counter[str], room: dict[str, list[int]], shares: Sequence[float], rank: bytes | None) -> int:
    """The part that a group with so many images per class goes to; without a rank, the first with room."""
    fits = [p for p in range(len(shares)) if all(room[name][p] >= count for name, count in needs.items())]
    if rank is None:
        return fits[0] if fits else max(range(len(shares)), key=lambda p: sum(room[name][p] for name in needs))
    drawn, cumulated = int.from_bytes(rank[:8], "big") / 2**64, 0.0
    for part, share in enumerate(shares):
        cumulated += share
        if drawn < cumulated:
            if part in fits:
                return part
            break
    return max(fits or range(len(shares)), key=lambda p: (sum(room[name][p] for name in needs), -p))


def _counts(total: int, fractions: Sequence[float], first: int = 0) -> list[int]:
    """Whole numbers that sum to ``total``, nearest to the fractions (largest remainder).

    Args:
        first: the one that wins a tie, before those that follow it in a circle.
    """
    exact = [total * fraction for fraction in fractions]
    counts = [int(value + 1e-9) for value in exact]
    by_remainder = sorted(
        range(len(exact)), key=lambda i: (-(round(exact[i] - counts[i], 9)), (i - first) % len(exact))
    )
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
    return hashlib.sha256(f"{seed}:{_key(path)}".encode(errors="surrogateescape")).digest()

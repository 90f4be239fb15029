"""Whether a run and its repetition are the same: what made them, every epoch, every weight.

What is compared may come from a stranger's run folder: it is shown, shortened and without control characters, and never
followed.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from landuse import addresses
from landuse.errors import UserError

TIMES = ("seconds", "images_per_second")  # of an epoch's record; how fast a machine was says nothing of the result
VERSIONS = ("python", "torch", "cuda")
MISSING = "missing"
LONGEST_SHOWN = 100  # characters of a value
SHORT_HASH = 12  # digits


@dataclass(frozen=True)
class Difference:
    """One thing in which the environments of two runs differ."""

    what: str  # code | configuration | weights to begin with | lock | versions | machine | hardware | data | model.json
    key: str  # empty where ``what`` says it all
    then: Any
    now: Any
    note: str = ""

    def __str__(self) -> str:
        key = f"{self.key} " if self.key else ""
        note = f" ({self.note})" if self.note else ""
        return f"{self.what}: {key}{shown(self.then)} then, {shown(self.now)} now{note}"


def shown(value: Any) -> str:
    """A value on one line: hashes and long texts shortened, addresses without passwords, no control characters."""
    if value is None:
        return "none"
    value = _public(value)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = re.sub(r"\b([0-9a-f]{12})[0-9a-f]{20,}\b", r"\1", text)
    text = "".join(character if character.isprintable() else "?" for character in text)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def data(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[Difference]:
    """Other images, or the same otherwise divided; where there are any, the one run says nothing of the other."""
    return list(_keys("data", ("data_fingerprint", "split_fingerprint"), then, now))


def environment(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[Difference]:
    """In which code, packages, machine and hardware choices two runs differ, by their provenance.

    What the older one did not record is not compared. Where it went on from its own checkpoints, its parts before them
    are compared as well.
    """
    found = [*_code(then, now)]
    found += _keys("weights to begin with", ("initial_weights",), then, now)
    found += _keys("lock", ("lock_hash",), then, now)
    found += machine(then, now)
    resumed = then.get("resumed_from")
    for part in filter(lambda part: isinstance(part, dict), resumed if isinstance(resumed, list) else []):
        until = f"up to epoch {shown(part.get('epoch'))}"
        found += _code({"source_hash": None, **part}, now, until)
        found += _keys("hardware", None, _mapping(part, "hardware"), _mapping(now, "hardware"), until)
    return found


def machine(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[Difference]:
    """What computes otherwise though code and configuration are the same: versions, machine, hardware choices."""
    found = [*_keys("versions", VERSIONS, then, now)]
    found += _keys("versions", None, _mapping(then, "packages"), _mapping(now, "packages"))
    found += _keys("machine", ("platform",), then, now)
    found += _keys("hardware", None, _mapping(then, "hardware"), _mapping(now, "hardware"))
    return found


def configuration(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[Difference]:
    """Dotted keys of two configurations (:func:`landuse.runs.comparable`) that differ.

    Device and hardware are left out: what came of these keys is compared, and not how it was asked for.
    """
    keys = [key for key in sorted({*then, *now}) if key != "trainer.device" and not key.startswith("hardware.")]
    return [
        Difference("configuration", key, _public(then.get(key)), _public(now.get(key)))
        for key in keys
        if then.get(key) != now.get(key)
    ]


def _public(value: Any) -> Any:
    return addresses.shown(value) if isinstance(value, str) and "://" in value else value


def _code(then: Mapping[str, Any], now: Mapping[str, Any], until: str = "") -> Iterator[Difference]:
    """The sources decide where both runs know theirs; the commit is named beside them."""
    sources = then.get("source_hash"), now.get("source_hash")
    are_same = sources[0] is not None and sources[0] == sources[1]
    commits = then.get("git_commit"), now.get("git_commit")
    states = [(record.get("git_commit"), record.get("git_dirty")) for record in (then, now)]
    if are_same and (None in commits or states[0] == states[1]):
        return
    changes = then.get("git_diff_hash"), now.get("git_diff_hash")
    is_unknown = states[0][1] is True and changes[0] is None  # changed, but how was not recorded
    if states[0] == states[1] and changes[0] == changes[1] and not is_unknown and None in sources:
        return
    note = "the package's sources are the same" if are_same else ""
    texts = [_code_shown(then), _code_shown(now)]
    if texts[0] == texts[1] and is_unknown:
        note = "what the older changes were was not recorded"
    elif texts[0] == texts[1]:
        texts = [f"{text}, sources {_short(source)}" for text, source in zip(texts, sources, strict=True)]
    yield Difference("code", until, texts[0], texts[1], note)


def _code_shown(record: Mapping[str, Any]) -> str:
    commit, changes, sources = (record.get(key) for key in ("git_commit", "git_diff_hash", "source_hash"))
    if commit is None:
        version = shown(record.get("version"))
        return f"version {version} outside git, sources {_short(sources)}" if sources else "an unknown version"
    dirty = f" with uncommitted changes {_short(changes)}".rstrip() if record.get("git_dirty") else ""
    return f"commit {_short(commit)}{dirty}"


def _short(value: Any) -> str:
    return shown(value)[:SHORT_HASH] if value is not None else ""


def _keys(
    what: str, keys: Sequence[str] | None, then: Mapping[str, Any], now: Mapping[str, Any], until: str = ""
) -> Iterator[Difference]:
    """Differences in these keys (None: all) among those that the older run recorded."""
    for key in keys if keys is not None else sorted(map(str, then)):
        if key in then and then[key] != now.get(key):
            yield Difference(what, f"{shown(key)} {until}".rstrip(), then[key], now.get(key))


def _mapping(record: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = record.get(key)
    return value if isinstance(value, dict) else {}


@dataclass(frozen=True)
class MetricDifference:
    """The first value of a training's record that is another."""

    epoch: int  # from 0, as in metrics.jsonl
    key: str
    then: Any
    now: Any
    difference: float | None  # absolute; None where one is missing or no finite number

    def __str__(self) -> str:
        size = f", a difference of {self.difference:.3g}" if self.difference is not None else ""
        return f"epoch {self.epoch + 1}, {shown(self.key)}: {shown(self.then)} then, {shown(self.now)} now{size}"


@dataclass(frozen=True)
class WeightDifference:
    """A tensor of the exported model that is not the same bit by bit."""

    tensor: str
    difference: float | None  # the largest absolute one; None where shapes or types differ, or it is not finite
    problem: str = ""
    counts: bool = False  # whole numbers, as batch norm's num_batches_tracked: no weight that a distance says much of

    def __str__(self) -> str:
        return f"{self.problem or f'{self.difference:.3g}'} in {shown(self.tensor)}"


@dataclass(frozen=True)
class Comparison:
    """What came out of two trainings."""

    num_epochs: int
    num_tensors: int
    first_metric: MetricDifference | None
    weights: list[WeightDifference]
    description: list[Difference]  # what model.json says the weights mean

    @property
    def identical(self) -> bool:
        """Every epoch, every weight and what is done with them, times aside."""
        return self.first_metric is None and not self.weights and not self.description

    @property
    def largest_weight(self) -> WeightDifference | None:
        """Tensors that cannot be subtracted count as the largest, and whole numbers as the smallest."""

        def size(weight: WeightDifference) -> tuple[bool, float]:
            return not weight.counts, math.inf if weight.difference is None else weight.difference

        return max(self.weights, key=size, default=None)

    def __str__(self) -> str:
        if self.identical:
            return f"{self.num_epochs} epochs, {self.num_tensors} tensors"
        first = f"the first difference is in {self.first_metric}" if self.first_metric else "every epoch is the same"
        first = "; ".join([first, *map(str, self.description)])
        if self.largest_weight is None:
            return f"{first}; all {self.num_tensors} tensors of the model are the same"
        count = f"{len(self.weights)} of {self.num_tensors} tensors of the model differ"
        return f"{first}; {count}, the largest difference is {self.largest_weight}"

    def to_json(self) -> dict[str, Any]:
        """For reproduction.json."""
        first: Any = asdict(self.first_metric) if self.first_metric else None
        if first is None and self.weights:
            first = asdict(self.weights[0])
        elif first is None and self.description:
            first = asdict(self.description[0])
        return {
            "identical": self.identical,
            "epochs": self.num_epochs,
            "tensors": self.num_tensors,
            "first_difference": first,
            "largest_weight_difference": asdict(self.largest_weight) if self.largest_weight else None,
            "weight_differences": {weight.tensor: weight.difference for weight in self.weights},
        }


def compare(
    then: tuple[Sequence[Mapping[str, Any]], Mapping[str, Tensor]],
    now: tuple[Sequence[Mapping[str, Any]], Mapping[str, Tensor]],
    descriptions: tuple[Mapping[str, Any], Mapping[str, Any]] = ({}, {}),
) -> Comparison:
    """Compare two trainings, each given by the records of its epochs and the weights of its exported model.

    Args:
        descriptions: what each model.json says of the weights.
    """
    first = next(_metric_differences(then[0], now[0]), None)
    names = sorted({*then[1], *now[1]})
    weights = [found for name in names if (found := _weight_difference(name, then[1].get(name), now[1].get(name)))]
    return Comparison(len(now[0]), len(names), first, weights, list(_keys("model.json", None, *descriptions)))


def _metric_differences(
    then: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]
) -> Iterator[MetricDifference]:
    for epoch, (a, b) in enumerate(zip_longest(then, now)):
        if a is None or b is None:
            there = [MISSING if one is None else "there" for one in (a, b)]
            yield MetricDifference(epoch, "the whole epoch", there[0], there[1], None)
            return
        for key in [key for key in a if key not in TIMES]:  # what an older one did not record is not compared
            x, y = a[key], b.get(key, MISSING)
            if x != y and not (x != x and y != y):  # two that are not a number are the same
                yield MetricDifference(epoch, key, _finite(x), _finite(y), _distance(x, y))


def _distance(x: Any, y: Any) -> float | None:
    if not all(isinstance(value, int | float) for value in (x, y)):
        return None
    return distance if math.isfinite(distance := abs(float(x) - float(y))) else None


def _finite(value: Any) -> Any:
    """JSON has no word for what is not finite."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _weight_difference(name: str, then: Tensor | None, now: Tensor | None) -> WeightDifference | None:
    forms = [MISSING if t is None else f"{str(t.dtype).removeprefix('torch.')} {list(t.shape)}" for t in (then, now)]
    if then is None or now is None or forms[0] != forms[1]:
        return WeightDifference(name, None, f"{forms[0]} then, {forms[1]} now")
    bits = [tensor.contiguous().reshape(-1).view(torch.uint8) for tensor in (then, now)]
    if torch.equal(*bits):
        return None
    largest = float((then.double() - now.double()).abs().max())
    if not math.isfinite(largest):
        return WeightDifference(name, None, "not finite")
    return WeightDifference(name, largest, counts=not then.is_floating_point())


def read_weights(run: Path) -> dict[str, Tensor]:
    """The weights of a run's exported model; nothing in the file is executed.

    Raises:
        UserError: there are none, or the file is damaged.
    """
    path = run / "model" / "model.safetensors"
    if not path.is_file():
        raise UserError(f"{run} has no model/{path.name}: give run= a finished run with its whole folder.")
    try:
        return safetensors.torch.load(path.read_bytes())
    except Exception as error:  # a damaged file can make the reader raise anything
        raise UserError(f"{path} is damaged ({shown(str(error))}): copy the run folder again.") from error

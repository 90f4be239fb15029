"""What the figures of a sweep share: marks of the states, axes of metrics, axes of swept keys."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log10
from typing import TYPE_CHECKING, Any

from landuse.page.drawing import BLUE, GREEN, INK, MUTED, ORANGE, PURPLE, SKY, percent_axis, shortened
from landuse.sweeps.records import State, SweepRecord, TrialRecord
from landuse.sweeps.report.reading import is_number, is_wide, metric_name, value_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

MAX_CATEGORIES = 12  # of a key; rarer ones are drawn as one
# Numbers of a key that are written one by one; their distance as a share of the axis; their length.
MAX_STEPS, MIN_GAP, MAX_DIGITS = 6, 0.12, 6
MARGIN = 0.05  # beyond the outermost numbers of a key, as a share of the axis
MANY_TRIALS = 60  # from which on marks become smaller and lines fainter


@dataclass(frozen=True)
class Mark:
    """How a state is drawn; no two states share a marker or a hatch, so that nobody needs the colour."""

    colour: str
    marker: str
    hatch: str = ""


MARKS: dict[State, Mark] = {
    "complete": Mark(BLUE, "o"),
    "pruned": Mark(ORANGE, "v", "////"),
    "failed": Mark(INK, "X", "xxxx"),
    "interrupted": Mark(PURPLE, "s", "...."),
    "running": Mark(SKY, "D", "----"),
    "waiting": Mark(MUTED, "P", "++++"),
}
BEST: dict[str, Any] = {"marker": "*", "color": GREEN, "markersize": 12, "markeredgecolor": "white", "zorder": 5}


def state_marks(axes: "Axes", state: State, x: Sequence[float], y: Sequence[float], label: str | None = None) -> None:
    """Marks of trials in one state."""
    mark = MARKS[state]
    size = 4.0 if len(x) > MANY_TRIALS else 5.5
    style: dict[str, Any] = {"markeredgecolor": "white", "markeredgewidth": 0.5, "zorder": 3}
    axes.plot(x, y, mark.marker, color=mark.colour, markersize=size, label=label, **style)


def best_proxy() -> "Line2D":
    """The best trial's mark, for a legend."""
    from matplotlib.lines import Line2D

    return Line2D([], [], linestyle="", label="best", **BEST)


def legend_above(axes: "Axes", handles: Iterable[Any], num_columns: int = 5) -> None:
    """A legend between the title and the axes, where no mark can lie below it; of equal labels, the first counts."""
    labelled: dict[str, Any] = {}
    for handle in handles:
        labelled.setdefault(handle.get_label(), handle)
    shown = list(labelled.values())
    if shown:
        rows = -(-len(shown) // num_columns)
        axes.set_title(axes.get_title(loc="left"), pad=8 + 12 * rows)
        spacing: dict[str, Any] = {"columnspacing": 1.2, "handletextpad": 0.4, "handlelength": 1.3}
        axes.legend(
            handles=shown, loc="lower left", bbox_to_anchor=(-0.02, 1), borderaxespad=0.2, ncols=num_columns,
            fontsize=8, **spacing,
        )  # fmt: skip


def handles_of(axes: "Axes") -> list[Any]:
    """What a legend of the axes would show."""
    return list(axes.get_legend_handles_labels()[0])


def whole_numbers(axis: Any) -> None:
    """An axis that counts."""
    axis.get_major_locator().set_params(integer=True, min_n_ticks=1)


def say(axes: "Axes", text: str) -> None:
    """A sentence in the place of data."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=MUTED)
    axes.set(yticks=[])


def metric_axis(axis: Any, metric: str, values: Sequence[float]) -> None:
    """Scale, numbers and label of an axis of a metric."""
    if metric == "val/accuracy":
        percent_axis(axis)
        axis.set_label_text(metric_name(metric))
        return
    number_axis(axis, values)
    if metric == "parameters" and not is_wide(list(values)):
        from matplotlib.ticker import EngFormatter

        axis.set_major_formatter(EngFormatter(sep=""))
    unit = {"train_seconds": " (s)", "latency_ms": " (ms)", "images_per_second": " (images/s)"}.get(metric, "")
    axis.set_label_text(metric_name(metric) + unit)


def number_axis(axis: Any, values: Sequence[float]) -> None:
    """A logarithmic axis where the values span orders of magnitude, else a linear one."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

    if is_wide(list(values)):
        (axis.axes.set_xscale if axis.axis_name == "x" else axis.axes.set_yscale)("log")
        axis.set_major_locator(LogLocator(numticks=6))
        # Powers as the default writes them would need the mathematics that is switched off for the sake of names.
        axis.set_major_formatter(lambda value, _: number_text(value))
        axis.set_minor_formatter(NullFormatter())
        return
    is_integer = all(float(value).is_integer() for value in values)
    num_steps = 5 if axis.axis_name == "y" else 3  # side by side, numbers such as 0.00025 need room
    axis.set_major_locator(MaxNLocator(nbins=num_steps, integer=is_integer))
    axis.set_major_formatter(lambda value, _: number_text(value))


def number_text(value: float) -> str:
    """A number in little room."""
    return f"{value:.6g}".replace("e-0", "e-").replace("e+0", "e")


def elided_key(key: str, length: int) -> str:
    """A dotted key in little room: its end tells more than its start."""
    text = value_text(key)
    return text if len(text) <= length else "…" + text[-(length - 1) :]


@dataclass(frozen=True)
class Scale:
    """Where the values of a swept key lie: categories one beside the other, numbers by their size.

    Attributes:
        categories: their names in the order of the axis, the last for all that have none of their own; empty for
            numbers.
        numbers: the values of a numeric key.
    """

    categories: list[str]
    numbers: list[float]

    @property
    def is_log(self) -> bool:
        """Whether the axis is logarithmic."""
        return is_wide(self.numbers)

    def place(self, value: Any) -> float:
        """The value itself, or the position of its category."""
        if not self.categories:
            return float(value)
        name = value_text(value)
        return float(self.categories.index(name) if name in self.categories else len(self.categories) - 1)

    def share(self, value: Any) -> float:
        """The place as a share of the axis, 0 at its start and 1 at its end."""
        place, low, high = self.place(value), 0.0, len(self.categories) - 1.0
        if not self.categories:
            low, high = min(self.numbers), max(self.numbers)
        if self.is_log:
            place, low, high = log10(place), log10(low), log10(high)
        return (place - low) / (high - low) if high > low else 0.5

    def steps(self) -> list[float]:
        """The different numbers, where they are so few and so far apart that each can be written; else none."""
        different = sorted(set(self.numbers))
        gaps = [self.share(after) - self.share(before) for before, after in pairwise(different)]
        are_few = len(different) <= MAX_STEPS and all(len(number_text(number)) <= MAX_DIGITS for number in different)
        return different if are_few and all(gap >= MIN_GAP for gap in gaps) else []

    def ticks(self) -> list[tuple[float, str]]:
        """Shares of the axis with what to write there."""
        if self.categories:
            last = len(self.categories) - 1
            return [(i / last if last else 0.5, name) for i, name in enumerate(self.categories)]
        if steps := self.steps():
            return [(self.share(number), number_text(number)) for number in steps]
        low, high = min(self.numbers), max(self.numbers)
        middle = (low * high) ** 0.5 if self.is_log else (low + high) / 2
        return [(self.share(number), f"{number:.3g}") for number in sorted({low, middle, high})]


def scale_of_key(record: SweepRecord, key: str) -> Scale:
    """The scale of a key that some trial has: of all trials' values, so that it is the same in every figure."""
    return scale_of(trial.params[key] for trial in record.trials if key in trial.params)


def scale_of(values: Iterable[Any]) -> Scale:
    """The scale on which values, one or more, lie; they are categories unless all are numbers."""
    found = list(values)
    if all(is_number(value) for value in found):
        return Scale([], [float(value) for value in found])
    counts = Counter(value_text(value) for value in found)
    numbers = {value_text(value): float(value) for value in found if is_number(value)}
    kept = sorted(counts, key=lambda name: (-counts[name], name))
    others = kept[MAX_CATEGORIES - 1 :] if len(kept) > MAX_CATEGORIES else []
    kept = kept[: len(kept) - len(others)]
    kept.sort(key=lambda name: (name not in numbers, numbers.get(name, 0.0), name))
    return Scale([*kept, f"{len(others)} others"] if others else kept, [])


def key_axis(axis: Any, scale: Scale, key: str) -> None:
    """The horizontal axis of a swept key."""
    if not scale.categories:
        number_axis(axis, scale.numbers)
        low, high = min(scale.numbers), max(scale.numbers)
        if low < high:
            margin = MARGIN * (log10(high / low) if scale.is_log else high - low)
            limits = (low / 10**margin, high * 10**margin) if scale.is_log else (low - margin, high + margin)
            axis.axes.set_xlim(limits)
        if scale.steps():
            axis.set_ticks(scale.steps(), [number_text(number) for number in scale.steps()], fontsize=8)
    else:
        names = [shortened(name, 14) for name in scale.categories]
        is_crowded = sum(map(len, names)) + 2 * len(names) > 30
        slant: dict[str, Any] = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"} if is_crowded else {}
        axis.axes.set_xticks(range(len(names)), names, fontsize=8, **slant)
        axis.axes.set_xlim(-0.6, len(names) - 0.4)
        axis.axes.grid(axis="x", visible=False)
    axis.set_label_text(elided_key(key, 32))


def spread(trial: TrialRecord, num_trials: int) -> float:
    """A shift of -0.25..0.25 that parts marks of one category, smaller where there are few.

    By the golden ratio, so that trials which follow each other differ most.
    """
    return (trial.number * 0.6180339887 % 1 - 0.5) / 2 * min(1.0, num_trials / MANY_TRIALS)

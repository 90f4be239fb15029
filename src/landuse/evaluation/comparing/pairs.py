"""The best run against each of the others."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

from landuse.evaluation.comparing.reading import Compared
from landuse.evaluation.comparing.statistics import PairedDifference, holm, paired


@dataclass(frozen=True)
class Pair:
    """The best run (the first) against another (the second)."""

    other: Compared
    paired: PairedDifference
    p_corrected: float

    def to_json(self) -> dict[str, Any]:
        """For comparison.json."""
        numbers = {"difference": self.paired.difference, "interval": list(self.paired.interval)}
        return asdict(self.paired) | numbers | {"p": self.paired.p_value, "p_corrected": self.p_corrected}


def against_best(comparable: Sequence[Compared]) -> list[Pair]:
    """The first of runs on the same images against the others; nothing of none.

    The first is the best on these very images, so what is held against it is a choice from all pairs: the p values are
    corrected for as many.
    """
    rights = [one.predictions.predicted == one.predictions.labels for one in comparable if one.predictions is not None]
    found = {pair: paired(rights[pair[0]], rights[pair[1]]) for pair in combinations(range(len(rights)), 2)}
    corrected = dict(zip(found, holm([one.p_value for one in found.values()]), strict=True))
    return [Pair(comparable[second], found[0, second], corrected[0, second]) for second in range(1, len(rights))]

"""What was found in a dataset: unusable images, conversions, sizes, duplicates, leaks. Kept in quality.json."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from landuse.data.duplicates import Pair
from landuse.data.sources import class_of
from landuse.data.split import Leak

MAX_EXAMPLES = 5  # per conversion


@dataclass
class Findings:
    """What decoding told about the images. Grows with what is remarkable, not with the number of images."""

    num_images: int
    unusable: dict[str, str] = field(default_factory=dict)  # path -> reason
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)  # (width, height) in pixels -> images
    conversions: Counter[str] = field(default_factory=Counter)  # what was done -> images
    examples: dict[str, list[str]] = field(default_factory=dict)  # what was done -> the first few paths

    def add_image(self, path: str, width: int, height: int, notes: Sequence[str]) -> None:
        """Count one usable image."""
        self.sizes[width, height] += 1
        for note in notes:
            self.conversions[note] += 1
            # The first by name, in whatever order images arrive: a zip, a tar and a folder are read in different ones.
            self.examples[note] = sorted([*self.examples.get(note, []), path])[:MAX_EXAMPLES]


def commonest_side(sizes: Iterable[Mapping[str, int]]) -> int:
    """The shorter side in pixels that most usable images have, of several the largest; ``sizes`` of quality.json."""
    sides: Counter[int] = Counter()
    for size in sizes:
        sides[min(size["width"], size["height"])] += size["images"]
    return max(sides, key=lambda side: (sides[side], side))


def at_odds(paths: Sequence[str], pairs: Sequence[Pair]) -> list[tuple[str, str]]:
    """Pairs that show the same and are of two classes."""
    named = [(paths[pair.first], paths[pair.second]) for pair in pairs]
    return [(first, second) for first, second in named if class_of(first) != class_of(second)]


def to_json(findings: Findings, paths: Sequence[str], pairs: Sequence[Pair], leaks: Sequence[Leak]) -> dict[str, Any]:
    """The content of quality.json; equal data give equal content."""
    return {
        "num_images": findings.num_images,
        "unusable": [{"path": path, "reason": reason} for path, reason in sorted(findings.unusable.items())],
        "conversions": [
            {"what": note, "images": count, "examples": findings.examples[note]}
            for note, count in sorted(findings.conversions.items())
        ],
        "sizes": [
            {"width": width, "height": height, "images": count}
            for (width, height), count in sorted(findings.sizes.items(), key=lambda item: (-item[1], item[0]))
        ],
        "duplicates": [
            {
                "first": paths[pair.first],
                "second": paths[pair.second],
                "correlation": round(pair.correlation, 4),
                "exact": pair.is_exact,
            }
            for pair in pairs
        ],
        "leaks": [
            {"image": paths[leak.image], "split": leak.split, "twin": paths[leak.twin], "twin_split": leak.twin_split}
            for leak in leaks
        ],
    }

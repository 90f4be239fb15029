"""How often the intervals of corrected areas hold, and whether correcting is better than counting: docs/map-areas.md.

    python -m benchmarks.areas [scenes=150]

Simulated: classes of unequal difficulty, of which two and two are taken for each other (70 % of the mistakes; the rest
goes to all others alike); a test split; a scene of independent tiles. ``mixed`` scenes are drawn from a Dirichlet
distribution (parameter 1 for 5 classes, 0.3 for 21), in ``one class`` scenes one has 90 % and the others the rest.
"""

import sys
from itertools import product

import numpy as np
from numpy.typing import NDArray

from landuse.mapping.areas import correct

ACCURACIES = (0.75, 0.90, 0.97, 0.99)  # on average over the classes
NUM_DRAWS = 300


def rates(num_classes: int, accuracy: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """(C, C) probabilities of the predicted class, rows true."""
    order = rng.permutation(num_classes)
    partner = np.empty_like(order)
    partner[order] = np.roll(order, 1)
    pairs = num_classes // 2 * 2
    partner[order[:pairs:2]], partner[order[1:pairs:2]] = order[1:pairs:2], order[:pairs:2]
    mistakes = np.full((num_classes, num_classes), 0.3 / (num_classes - 1))
    mistakes[np.arange(num_classes), partner] += 0.7
    wrong = np.clip((1 - accuracy) * rng.gamma(2, 0.5, num_classes), 0, 0.6)
    matrix = mistakes * wrong[:, None]
    np.fill_diagonal(matrix, 1 - wrong)
    return matrix


def measure(
    num_classes: int, num_images: int, num_tiles: int, accuracy: float, mixed: bool, num_scenes: int
) -> dict[str, float]:
    """Per cent: of intervals that hold (of shares over 1 %, of the largest class), and errors in points of share."""
    rng = np.random.default_rng(0)
    held, held_largest, width, raw, corrected = [], [], [], [], []
    for _ in range(num_scenes):
        matrix = rates(num_classes, accuracy, rng)
        mix = rng.dirichlet(np.full(num_classes, 1.0 if num_classes == 5 else 0.3))
        if not mixed:
            mix = 0.1 * mix + 0.9 * (np.arange(num_classes) == 0)
        confusion = rng.multinomial(num_images, matrix)
        tiles = rng.multinomial(num_tiles, mix)
        true, counted = tiles / num_tiles, rng.multinomial(tiles, matrix).sum(axis=0) / num_tiles
        found = correct(counted, confusion, num_tiles, rng, NUM_DRAWS)
        holds = (found.low <= true) & (true <= found.high)
        held += list(holds[true >= 0.01])
        held_largest.append(holds[true.argmax()])
        width.append((found.high - found.low)[true.argmax()])
        raw.append(counted - true)
        corrected.append(found.share - true)
    values = {"held": np.mean(held), "largest": np.mean(held_largest), "width": np.mean(width)}
    values |= {"raw": np.sqrt(np.mean(np.square(raw))), "corrected": np.sqrt(np.mean(np.square(corrected)))}
    return {name: 100 * float(value) for name, value in values.items()}


def main(num_scenes: int) -> None:
    """Print the table as Markdown."""
    print("| classes | images a class | tiles | scene |" + "".join(f" {a:.0%} accurate |" for a in ACCURACIES))
    print("|---" * (4 + len(ACCURACIES)) + "|")
    for num_classes, mixed, num_images, num_tiles in product((5, 21), (True, False), (20, 80), (100, 2000)):
        cells = []
        for accuracy in ACCURACIES:
            found = measure(num_classes, num_images, num_tiles, accuracy, mixed, num_scenes)
            cells.append("{held:.0f}, {largest:.0f}; {raw:.1f} → {corrected:.1f}".format(**found))
        scene = "mixed" if mixed else "one class"
        print(f"| {num_classes} | {num_images} | {num_tiles} | {scene} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1].removeprefix("scenes=")) if len(sys.argv) > 1 else 150)

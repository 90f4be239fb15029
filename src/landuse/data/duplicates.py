"""Images that show the same: exact copies, and near copies up to the symmetries of the square, light and re-encoding.

Two images are near-duplicates when the correlation of their grey thumbnails of 32 x 32 pixels, in the best of the eight
symmetries of the square, is at least 0.98. Correlation ignores brightness and contrast. The limit was set on UC Merced:
above it lie its known duplicate and tiles of one beach photographed side by side, below it begin pairs of different
places. Copies that were turned, mirrored, brightened by a third or saved as JPEG of quality 50 stay above 0.99.

The search is exact, and yet does not compare every pair in every symmetry: see :func:`_candidates`.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from landuse.data.decode import THUMBNAIL_PX

Mode = Literal["near", "exact", "off"]

MIN_CORRELATION = 0.98
MIN_SPREAD = 1.5  # grey levels (standard deviation); flatter thumbnails show noise, which says nothing
LOW_FREQUENCIES = 8  # per axis
BLOCK = 2048  # rows compared at once; 2048 x 2048 float32 are 16 MB


@dataclass(frozen=True)
class Pair:
    """Two images that show the same, as indices."""

    first: int
    second: int
    correlation: float  # of the thumbnails in the best symmetry; 1.0 for exact copies
    is_exact: bool  # equal in every packed pixel


def find_pairs(thumbnails: NDArray[np.uint8], images: NDArray[np.uint8], rows: Sequence[int], mode: Mode) -> list[Pair]:
    """All pairs of images that show the same.

    Args:
        thumbnails: (N, 32, 32) uint8, see :func:`landuse.data.decode.make_thumbnail`; may be memory-mapped.
        images: (N, size, size, 3) uint8; of these, only candidates are read.
        rows: the images to look at; the others are no images.
        mode: "exact" finds exact copies alone, "off" none.

    Returns:
        Pairs ``first < second``, sorted.
    """
    if mode == "off" or len(rows) < 2:
        return []
    chosen = np.asarray(rows, dtype=np.int64)
    spread = np.concatenate([thumbnails[chosen[i : i + BLOCK]].std(axis=(1, 2)) for i in range(0, len(chosen), BLOCK)])
    flat = chosen[spread < MIN_SPREAD] if mode == "near" else chosen
    pairs = list(_exact_pairs(thumbnails, images, flat))
    if mode == "near":
        textured = chosen[spread >= MIN_SPREAD]
        for a, b in _candidates(thumbnails, textured):
            first, second = sorted((int(textured[a]), int(textured[b])))
            correlation = best_correlation(thumbnails[first], thumbnails[second])
            if correlation >= MIN_CORRELATION:
                pairs.append(Pair(first, second, correlation, np.array_equal(images[first], images[second])))
    return sorted(pairs, key=lambda pair: (pair.first, pair.second))


def group_numbers(num_images: int, links: Iterable[tuple[int, int]]) -> list[int]:
    """For every image the smallest index of its group: images joined by links, directly or through others."""
    parent = list(range(num_images))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for a, b in links:
        low, high = sorted((root(a), root(b)))
        parent[high] = low
    return [root(i) for i in range(num_images)]


def best_correlation(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Largest Pearson correlation of two (S, S) uint8 images over the eight symmetries of the square.

    Sums of integers, so that every machine comes to the same verdict at the limit.
    """
    x = a.astype(np.int64).ravel()
    y = b.astype(np.int64)
    n = x.size
    covariance = max(
        n * int(x @ np.rot90(mirrored, turns).ravel()) - int(x.sum()) * int(y.sum())
        for mirrored in (y, y[:, ::-1])
        for turns in range(4)
    )
    variance_x, variance_y = (n * int((v * v).sum()) - int(v.sum()) ** 2 for v in (x, y))
    return float(covariance / (variance_x * variance_y) ** 0.5) if variance_x and variance_y else 0.0


def _exact_pairs(thumbnails: NDArray[np.uint8], images: NDArray[np.uint8], rows: NDArray[np.int64]) -> Iterator[Pair]:
    """Pairs of equal images: the first of each set of equals with each of the others."""
    alike: dict[bytes, list[int]] = defaultdict(list)
    for i in rows.tolist():
        alike[thumbnails[i].tobytes()].append(i)
    for members in alike.values():
        firsts: list[int] = []
        for i in members:
            for first in firsts:
                if np.array_equal(images[first], images[i]):
                    yield Pair(first, i, 1.0, True)
                    break
            else:
                firsts.append(i)


def _candidates(thumbnails: NDArray[np.uint8], rows: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Pairs of positions in ``rows`` among which all near-duplicates are.

    Thumbnails of zero mean and unit norm with correlation r are sqrt(2 - 2 r) apart, and so are their discrete cosine
    transforms. Mirroring an image changes signs of its coefficients and a quarter turn also exchanges the two axes;
    hence absolute values, each pair (u, v), (v, u) in order of size, are the same in all eight symmetries. Neither
    taking absolute values nor sorting nor leaving out coefficients moves two vectors further apart. So near-duplicates
    are at most sqrt(2 - 2 * 0.98) = 0.2 apart in the invariants as well, and one matrix product finds who is.
    """
    invariants = np.concatenate([_invariants(thumbnails[rows[i : i + BLOCK]]) for i in range(0, len(rows), BLOCK)])
    # |a - b|^2 = |a|^2 + |b|^2 - 2 a.b <= limit^2, with room for rounding: candidates are judged exactly afterwards.
    squares = (invariants**2).sum(axis=1)
    limit = np.float32(2 - 2 * MIN_CORRELATION + 1e-3)
    for start in range(0, len(rows), BLOCK):
        block, block_squares = invariants[start : start + BLOCK], squares[start : start + BLOCK, None]
        for other in range(start, len(rows), BLOCK):
            product = block @ invariants[other : other + BLOCK].T
            product *= -2
            product += block_squares
            product += squares[other : other + BLOCK]
            for a, b in np.argwhere(product <= limit):
                if start + a < other + b:
                    yield int(start + a), int(other + b)


def _invariants(thumbnails: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(N, 32, 32) uint8 -> (N, 63) float32: the low frequencies of each, the same in all eight symmetries."""
    grey = thumbnails.astype(np.float32)
    grey -= grey.mean(axis=(1, 2), keepdims=True)
    grey /= np.sqrt((grey**2).sum(axis=(1, 2), keepdims=True))
    transform = _cosine_transform()
    coefficients = np.abs(transform @ grey @ transform.T)
    above, right = np.triu_indices(LOW_FREQUENCIES, 1)
    one, other = coefficients[:, above, right], coefficients[:, right, above]
    diagonal = np.diagonal(coefficients, axis1=1, axis2=2)[:, 1:]  # without the mean
    return np.concatenate([np.maximum(one, other), np.minimum(one, other), diagonal], axis=1)


def _cosine_transform() -> NDArray[np.float32]:
    """The first rows of the orthonormal DCT-II of 32 samples, (8, 32)."""
    k, x = np.arange(LOW_FREQUENCIES)[:, None], np.arange(THUMBNAIL_PX)[None, :]
    rows = np.sqrt(2 / THUMBNAIL_PX) * np.cos(np.pi * (2 * x + 1) * k / (2 * THUMBNAIL_PX))
    rows[0] /= np.sqrt(2)
    return np.asarray(rows, dtype=np.float32)

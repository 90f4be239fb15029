"""Images that show the same: exact copies, and near copies up to the symmetries of the square, light and re-encoding.

Two images are near-duplicates when the correlation of their grey thumbnails of 32 x 32 pixels, in the best of the eight
symmetries of the square, is at least 0.98. Correlation ignores brightness and contrast. The limit was set on UC Merced:
above it lie its known duplicate and tiles of one beach photographed side by side, below it begin pairs of different
places. Copies that were turned, mirrored, brightened by a third or saved as JPEG of quality 50 stay above 0.99. Images
without texture, such as open water, are alike by chance: of those only copies equal but for the symmetry count.

The search is exact, and yet does not compare every pair in every symmetry: see :func:`_near_pairs`.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from landuse.data.decode import THUMBNAIL_PX
from landuse.data.rows import Rows
from landuse.data.workers import num_workers

Mode = Literal["near", "exact", "off"]

MIN_CORRELATION = 0.98
MIN_SPREAD = 1.5  # grey levels (standard deviation); flatter thumbnails show noise, which says nothing
LOW_FREQUENCIES = 8  # per axis
AXES = 32  # more find fewer candidates and cost more to compare
BANDS = (0, 8, 12, 16, 24)  # where the ranges of frequencies begin that are summed up
BLOCK = 512  # rows compared at once; 512 x 512 float32 are 1 MB, which stays in a core's cache
# Of thumbnails at zero mean and unit norm, with room for rounding: candidates are judged exactly afterwards.
MAX_SQUARED_DISTANCE = np.float32(2 - 2 * MIN_CORRELATION + 1e-3)


@dataclass(frozen=True)
class Pair:
    """Two images that show the same, as indices."""

    first: int
    second: int
    correlation: float  # of the thumbnails in the best symmetry; 1.0 for exact copies
    is_exact: bool  # equal in every packed pixel


def find_pairs(thumbnails: Rows, images: Rows, rows: Sequence[int], mode: Mode) -> list[Pair]:
    """All pairs of images that show the same.

    Args:
        thumbnails: (N, 32, 32) uint8, see :func:`landuse.data.decode.make_thumbnail`.
        images: (N, size, size, 3) uint8; of these, only candidates are read.
        rows: the images to look at; the others are no images.
        mode: "exact" finds exact copies alone, "off" none.

    Returns:
        Pairs ``first < second``, sorted. Of exact copies the first is paired with each of the others, and stands for
        them where near copies are concerned.
    """
    if mode == "off" or len(rows) < 2:
        return []
    chosen = np.asarray(rows, dtype=np.int64)
    pairs = list(_exact_pairs(thumbnails, images, chosen))
    if mode == "near":  # among one of each set of exact copies: a thousand black tiles are no half million pairs
        chosen = np.setdiff1d(chosen, [pair.second for pair in pairs])
        is_flat = np.concatenate([_is_flat(thumbnails[chosen[i : i + BLOCK]]) for i in range(0, len(chosen), BLOCK)])
        pairs += _turned_pairs(thumbnails, images, chosen[is_flat])
        for a, b, correlation in _near_pairs(thumbnails, chosen[~is_flat]):
            pairs.append(Pair(a, b, correlation, np.array_equal(images[a], images[b])))
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


def best_correlations(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Largest Pearson correlation of each of (N, S, S) uint8 images with its partner, over the eight symmetries.

    Sums of integers (float64 holds them exactly), so that every machine comes to the same verdict at the limit.
    """
    n = a.shape[1] * a.shape[2]
    parts_a, parts_b = _mirror_parts(a), _mirror_parts(b)
    # Each part stands for four times as many pixels, and is a sum of four: n (sum of products) - (product of sums).
    covariance = n * _best_products(parts_a, parts_b) / 4 - _sums(a) * _sums(b)
    variances = [n * _sums(v.astype(np.float64) ** 2) - _sums(v) ** 2 for v in (a, b)]
    norm = np.sqrt(variances[0] * variances[1])
    return np.asarray(np.divide(covariance, norm, out=np.zeros(len(a)), where=norm > 0))


def _sums(images: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(images.sum(axis=(1, 2), dtype=np.float64))


def _mirror_parts(images: NDArray[np.uint8]) -> tuple[NDArray[np.float64], ...]:
    """(N, S, S) -> four (N, S/2, S/2): quarters of four times the parts that are even or odd in each axis.

    An image is the sum of its parts, and mirroring it only changes signs of parts: (even, even), (even, odd), (odd,
    even), (odd, odd) in the vertical, horizontal axis.
    """
    half = images.shape[1] // 2
    pixels = images.astype(np.float64)
    top, bottom = pixels[:, :half], pixels[:, : half - 1 : -1]
    rows = (top + bottom, top - bottom)
    halves = [(part[:, :, :half], part[:, :, : half - 1 : -1]) for part in rows]
    return tuple(left + sign * right for left, right in halves for sign in (1, -1))


def _best_products(a: tuple[NDArray[Any], ...], b: tuple[NDArray[Any], ...]) -> NDArray[Any]:
    """(N,): the largest inner product of each image with its partner in the eight symmetries, from four parts each."""
    even_even, even_odd, odd_even, odd_odd = b
    turned = tuple(part.transpose(0, 2, 1) for part in (even_even, odd_even, even_odd, odd_odd))
    products = []
    for parts in (b, turned):
        ee, eo, oe, oo = (np.einsum("nij,nij->n", x, y) for x, y in zip(a, parts, strict=True))
        products += [ee + eo + oe + oo, ee - eo + oe - oo, ee + eo - oe - oo, ee - eo - oe + oo]
    return np.asarray(np.max(products, axis=0))


def _is_flat(thumbnails: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(N,): the standard deviation is below MIN_SPREAD; in whole numbers, for the same verdict on every machine."""
    n = thumbnails.shape[1] * thumbnails.shape[2]
    values = thumbnails.astype(np.int64)
    return np.asarray(n * (values**2).sum(axis=(1, 2)) - values.sum(axis=(1, 2)) ** 2 < (MIN_SPREAD * n) ** 2)


def _exact_pairs(thumbnails: Rows, images: Rows, rows: NDArray[np.int64]) -> Iterator[Pair]:
    """Pairs of equal images: the first of each set of equals with each of the others."""
    yield from _equals(thumbnails, rows, bytes, lambda a, b: np.array_equal(images[a], images[b]), is_exact=True)


def _turned_pairs(thumbnails: Rows, images: Rows, rows: NDArray[np.int64]) -> Iterator[Pair]:
    """Pairs of images that are equal in one of the other symmetries, all that can be said of those without texture."""

    def is_turned(a: int, b: int) -> bool:
        image = images[a]
        return any(np.array_equal(image, turned) for turned in _symmetries(images[b]))

    yield from _equals(
        thumbnails, rows, lambda thumbnail: min(map(bytes, _symmetries(thumbnail))), is_turned, is_exact=False
    )


def _equals(
    thumbnails: Rows,
    rows: NDArray[np.int64],
    key: Callable[[NDArray[np.uint8]], bytes],
    is_equal: Callable[[int, int], bool],
    *,
    is_exact: bool,
) -> Iterator[Pair]:
    """The first of each set of equals with each of the others; ``key`` is the same for equals."""
    alike: dict[bytes, list[int]] = defaultdict(list)
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        for i, thumbnail in zip(block.tolist(), thumbnails[block], strict=True):
            alike[hashlib.blake2b(key(thumbnail), digest_size=16).digest()].append(i)
    for members in alike.values():
        firsts: list[int] = []
        for i in members:
            for first in firsts:
                if is_equal(first, i):
                    yield Pair(first, i, 1.0, is_exact)
                    break
            else:
                firsts.append(i)


def _symmetries(image: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """(S, S, ...) in each of the eight symmetries of the square."""
    for mirrored in (image, image[:, ::-1]):
        for turns in range(4):
            yield np.rot90(mirrored, turns)


def _near_pairs(thumbnails: Rows, rows: NDArray[np.int64]) -> Iterator[tuple[int, int, float]]:
    """All near-duplicates among ``rows``: first, second, correlation.

    Thumbnails of zero mean and unit norm with correlation r are sqrt(2 - 2 r) apart, so are their discrete cosine
    transforms, and no part of them is further apart: near-duplicates are at most sqrt(2 - 2 * 0.98) = 0.2 apart in
    their :func:`_features`, in the symmetry that brings them closest. To find who may be without trying eight, one
    matrix product compares invariants of the symmetries along the axes in which they differ most, which are not further
    apart either; who passes is compared in all eight, and who passes that by the pixels.
    """
    if not len(rows):
        return
    starts = range(0, len(rows), BLOCK)
    features = np.empty((len(rows), len(_TURNED)), np.float32)

    def describe(start: int) -> None:
        features[start : start + BLOCK] = _features(thumbnails[rows[start : start + BLOCK]])

    def judge(start: int) -> list[tuple[int, int, float]]:
        pairs = rows[_close_to(terms, features, start)]
        found: list[tuple[int, int, float]] = []
        for i in range(0, pairs.shape[1], BLOCK):
            first, second = pairs[:, i : i + BLOCK]
            correlations = best_correlations(thumbnails[first], thumbnails[second])
            near = correlations >= MIN_CORRELATION
            found += zip(first[near].tolist(), second[near].tolist(), correlations[near].tolist(), strict=True)
        return found

    # A thread of ours per core, and none of the library's: those wait for each other at every one of many products.
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(num_workers()) as executor:
        list(executor.map(describe, starts))
        terms = _terms(features)
        for found in executor.map(judge, starts):
            yield from found


def _terms(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, 89) -> (N, 34): what makes a comparison of invariants along their first principal axes a matrix product.

    |a - b|^2 = |a|^2 + |b|^2 - 2 a.b is the product of (-2 a, |a|^2, 1) with (b, 1, |b|^2), which is returned.
    """
    blocks = range(0, len(features), BLOCK)
    products = sum(part.T @ part for part in (_invariants(features[i : i + BLOCK]) for i in blocks))
    axes = np.linalg.eigh(products)[1][:, -AXES:]
    terms = np.ones((len(features), AXES + 2), np.float32)
    for start in blocks:
        block = slice(start, start + BLOCK)
        terms[block, :-2] = _invariants(features[block]) @ axes
        terms[block, -1] = (terms[block, :-2] ** 2).sum(axis=1)
    return terms


def _close_to(terms: NDArray[np.float32], features: NDArray[np.float32], start: int) -> NDArray[np.int64]:
    """(2, M): pairs first < second that may be near-duplicates, as positions; first is in the block from ``start``."""
    block = terms[start : start + BLOCK]
    left = np.concatenate([-2 * block[:, :-2], block[:, -1:], block[:, -2:-1]], axis=1)
    # Written over again and again: memory fresh from the system at every turn would cost more than the product.
    distances, is_close = np.empty((len(block), BLOCK), np.float32), np.empty((len(block), BLOCK), np.bool_)
    found = [np.empty((2, 0), np.int64)]
    for other in range(start, len(terms), BLOCK):
        right = terms[other : other + BLOCK]
        np.matmul(left, right.T, out=distances[:, : len(right)])
        np.less_equal(distances, MAX_SQUARED_DISTANCE, out=is_close)
        is_close[:, len(right) :] = False
        candidates = np.flatnonzero(is_close)
        if not len(candidates):
            continue
        a, b = np.divmod(candidates, BLOCK)
        pairs = np.stack([a + start, b + other])
        pairs = pairs[:, pairs[0] < pairs[1]]
        found.append(pairs[:, _squared_distances(*(features[i] for i in pairs)) <= MAX_SQUARED_DISTANCE])
    return np.concatenate(found, axis=1)


def _squared_distances(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N,): of the features of each of N images from its partner's, in the symmetry that brings them closest."""
    products = np.concatenate([(a * b) @ _SIGNS, (a * b[:, _TURNED]) @ _SIGNS], axis=1)
    return np.asarray((a**2).sum(axis=1) + (b**2).sum(axis=1) - 2 * products.max(axis=1))


def _features(thumbnails: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(N, 32, 32) uint8 -> (N, 89) float32: what the cosine transform of each at zero mean and unit norm holds.

    The lowest 8 x 8 frequencies one by one, then of the higher ones the norms of blocks of one band by another:
    texture lives there, and without them all images of much texture would look alike.
    """
    grey = thumbnails.astype(np.float32)
    grey -= grey.mean(axis=(1, 2), keepdims=True)
    grey /= np.sqrt((grey**2).sum(axis=(1, 2), keepdims=True))
    coefficients = _COSINES @ grey @ _COSINES.T
    low = coefficients[:, :LOW_FREQUENCIES, :LOW_FREQUENCIES].copy()
    coefficients[:, :LOW_FREQUENCIES, :LOW_FREQUENCIES] = 0
    power = np.add.reduceat(np.add.reduceat(coefficients**2, BANDS, axis=1), BANDS, axis=2)
    return np.concatenate([low.reshape(len(low), -1), np.sqrt(power).reshape(len(low), -1)], axis=1)


def _invariants(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, 89) -> (N, 89), the same in all eight symmetries.

    Mirroring an image changes signs of coefficients and a quarter turn also exchanges the two axes. Hence absolute
    values, each pair (u, v), (v, u) in order of size; neither moves two vectors further apart.
    """
    one = np.abs(features)
    other = one[:, _TURNED]
    return np.where(np.arange(len(_TURNED)) < _TURNED, np.minimum(one, other), np.maximum(one, other))


def _cosines() -> NDArray[np.float32]:
    """The orthonormal DCT-II of 32 samples, (32, 32)."""
    k, x = np.arange(THUMBNAIL_PX)[:, None], np.arange(THUMBNAIL_PX)[None, :]
    rows = np.sqrt(2 / THUMBNAIL_PX) * np.cos(np.pi * (2 * x + 1) * k / (2 * THUMBNAIL_PX))
    rows[0] /= np.sqrt(2)
    return np.asarray(rows, dtype=np.float32)


def _turned() -> NDArray[np.int64]:
    """(89,): where the features of an image are once its axes are exchanged."""
    low, high = (np.arange(n**2).reshape(n, n).T.ravel() for n in (LOW_FREQUENCIES, len(BANDS)))
    return np.concatenate([low, LOW_FREQUENCIES**2 + high])


def _signs() -> NDArray[np.float32]:
    """(89, 4): what the four ways of mirroring multiply features by; an odd frequency changes its sign."""
    u, v = np.divmod(np.arange(LOW_FREQUENCIES**2), LOW_FREQUENCIES)
    low = np.stack([(-1.0) ** exponent for exponent in (0 * u, u, v, u + v)], axis=1)
    return np.concatenate([low, np.ones((len(BANDS) ** 2, 4))]).astype(np.float32)


_COSINES, _TURNED, _SIGNS = _cosines(), _turned(), _signs()

"""Which images count as the same, against a plain search that compares every pair in every symmetry."""

import io
import itertools
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter

from landuse.data import duplicates
from landuse.data.decode import decode, make_thumbnail
from landuse.data.duplicates import MIN_CORRELATION, best_correlations, find_pairs, group_numbers
from landuse.data.rows import Rows
from landuse.data.synthetic import CLASSES, draw_scene

UCMERCED_PAIRS = [
    ("airplane01", "airplane02"), ("beach13", "beach14"), ("beach74", "beach75"), ("beach76", "beach77"),
    ("beach85", "beach86"), ("beach85", "beach87"), ("beach86", "beach87"), ("beach86", "beach88"),
    ("beach87", "beach88"),
]  # fmt: skip


def symmetries(image: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    return [np.rot90(mirrored, turns) for mirrored in (image, image[:, ::-1]) for turns in range(4)]


def plain_correlations(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(N, N): of every pair in the best of the eight symmetries, by Pearson's formula."""
    values = np.array([[turned.ravel() for turned in symmetries(image)] for image in images], dtype=np.float64)
    values -= values.mean(axis=2, keepdims=True)
    values /= np.linalg.norm(values, axis=2, keepdims=True)
    return np.max([values[:, 0] @ values[:, turn].T for turn in range(8)], axis=0)


def blurred(draws: np.random.Generator, radius: float) -> NDArray[np.float64]:
    noise = Image.fromarray(draws.integers(0, 256, (32, 32), dtype=np.uint8))
    return np.asarray(noise.filter(ImageFilter.GaussianBlur(radius)), dtype=np.float64)


@pytest.fixture
def thumbnails() -> NDArray[np.uint8]:
    """Families of images of one origin at all distances around the limit, each turned at random, smooth and rough."""
    draws, images = np.random.default_rng(0), []
    for radius in (0, 1, 2, 4):
        for _ in range(4):
            origin = blurred(draws, radius)
            for weight in np.linspace(0, 0.5, 12):
                mixed = origin * (1 - weight) + blurred(draws, radius) * weight
                bright = np.clip(mixed * draws.uniform(0.7, 1.2) + draws.uniform(-10, 10), 0, 255)
                images.append(symmetries(np.rint(bright).astype(np.uint8))[draws.integers(8)])
    return np.stack([images[i] for i in draws.permutation(len(images))])


def test_correlation_is_that_of_the_best_symmetry(thumbnails: NDArray[np.uint8]) -> None:
    a, b = thumbnails[:90], thumbnails[90:180]
    expected = plain_correlations(np.concatenate([a, b]))[np.arange(90), np.arange(90, 180)]
    assert best_correlations(a, b) == pytest.approx(expected, abs=1e-12)
    for turned in symmetries(thumbnails[0]):
        assert best_correlations(thumbnails[:1], turned[None])[0] == 1.0
    flat = np.full((1, 32, 32), 7, np.uint8)
    assert best_correlations(flat, thumbnails[:1])[0] == 0.0


@pytest.mark.parametrize("block", [16, 50, 512])
def test_the_search_misses_nothing(thumbnails: NDArray[np.uint8], block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "BLOCK", block)
    rows = [i for i in range(len(thumbnails)) if i % 7]
    alike = plain_correlations(thumbnails) >= MIN_CORRELATION
    expected = [(a, b) for a, b in itertools.combinations(rows, 2) if alike[a, b]]
    found = find_pairs(thumbnails, thumbnails[..., None], rows, "near")
    assert [(pair.first, pair.second) for pair in found] == expected
    assert len(expected) > 50
    assert sum(MIN_CORRELATION <= pair.correlation < MIN_CORRELATION + 0.005 for pair in found) > 3  # at the limit, too


def test_copies_that_were_turned_brightened_or_compressed_are_found() -> None:
    images = []
    for name in CLASSES[::4]:
        scene = Image.fromarray(draw_scene(name, 0, 0, 96))
        jpeg = io.BytesIO()
        scene.save(jpeg, "JPEG", quality=50)
        darker = ImageEnhance.Brightness(scene.transpose(Image.Transpose.TRANSVERSE)).enhance(0.75)
        images += [scene, Image.open(jpeg).convert("RGB"), darker, scene.resize((256, 256))]
    thumbnails = np.stack([make_thumbnail(image) for image in images])
    found = find_pairs(thumbnails, thumbnails[..., None], range(len(images)), "near")
    assert {(pair.first, pair.second) for pair in found} == {
        (a, b) for a, b in itertools.combinations(range(len(images)), 2) if a // 4 == b // 4
    }


@pytest.mark.parametrize("size", [33, 40, 48, 50, 72, 100, 200, 256])
def test_the_thumbnail_of_a_mirrored_image_is_mirrored(size: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    for pixels in (noise, draw_scene("harbor", 0, 0, size)):
        thumbnails = [make_thumbnail(Image.fromarray(np.ascontiguousarray(turned))) for turned in symmetries(pixels)]
        for thumbnail in thumbnails[1:]:
            assert best_correlations(thumbnails[0][None], thumbnail[None])[0] > 0.998


def test_many_equal_images_are_as_many_pairs() -> None:
    images = np.repeat(draw_scene("harbor", 0, 0, 32)[None], 700, axis=0)
    thumbnails = np.ascontiguousarray(images[..., 0])
    images[3] = images[3, :, ::-1]
    thumbnails[3] = thumbnails[3, :, ::-1]
    found = find_pairs(thumbnails, images, range(700), "near")
    assert [(pair.first, pair.second, pair.is_exact) for pair in found] == [(0, i, i != 3) for i in range(1, 700)]


def test_without_texture_only_exact_copies_count() -> None:
    """The noise of two photographs of nothing is alike by chance."""
    draws = np.random.default_rng(0)
    thumbnails = np.full((4, 32, 32), 100, np.uint8)
    thumbnails[2:] += draws.integers(0, 2, (2, 32, 32), dtype=np.uint8)
    images = np.stack([np.full((8, 8, 3), value, np.uint8) for value in (100, 100, 101, 101)])
    for mode, pairs in (("near", [(0, 1)]), ("exact", [(0, 1)]), ("off", [])):
        found = find_pairs(thumbnails, images, range(4), mode)
        assert [(pair.first, pair.second, pair.is_exact) for pair in found] == [(*pair, True) for pair in pairs]
    thumbnails[3], images[2:, 0, 1] = np.rot90(thumbnails[2], 1), 7
    images[3] = np.rot90(images[2], 1)
    found = find_pairs(thumbnails, images, range(4), "near")
    assert [(pair.first, pair.second, pair.is_exact) for pair in found] == [(0, 1, True), (2, 3, False)]


def test_groups_are_what_links_join() -> None:
    assert group_numbers(7, [(5, 2), (2, 6), (4, 3)]) == [0, 1, 2, 3, 3, 2, 2]


def test_rows_are_those_of_the_file(tmp_path: Path) -> None:
    content = np.arange(5 * 6, dtype=np.uint8).reshape(5, 2, 3)
    (tmp_path / "rows").write_bytes(content.tobytes())
    with Rows(tmp_path / "rows", (5, 2, 3)) as rows:
        assert np.array_equal(rows[[4, 0]], content[[4, 0]])
        assert np.array_equal(rows[2], content[2])
        with pytest.raises(OSError, match="ends before row 5"):
            rows[[5]]


def test_ucmerced(real_data: Path) -> None:
    """The known pair, and tiles of one beach photographed side by side."""
    import zipfile

    with zipfile.ZipFile(real_data / "UCMerced_LandUse.zip") as file:
        names = sorted(name for name in file.namelist() if Path(name).parent.name in ("airplane", "beach", "forest"))
        names = [name for name in names if Path(name).suffix]
        decoded = [decode(file.read(name), name, 64) for name in names]
    thumbnails, images = (np.stack([getattr(image, kind) for image in decoded]) for kind in ("thumbnail", "pixels"))
    found = find_pairs(thumbnails, images, range(len(names)), "near")
    assert [(Path(names[pair.first]).stem, Path(names[pair.second]).stem) for pair in found] == UCMERCED_PAIRS
    assert [pair.is_exact for pair in found] == [True] + [False] * 8

"""Augmentation: exact where it moves pixels, equal to plain references where it computes, random only as documented."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from landuse.config.schema import AugmentConfig
from landuse.data.augment import Augmentation, Draws, Mixing, normalise
from landuse.data.augment.colour import LUMA, erase, erase_batch, hue_matrix, saturation_matrix
from landuse.data.augment.geometry import mirror_border, move_pixels, resample_batch, resample_each
from landuse.data.augment.mixing import paste
from landuse.data.augment.pipeline import size_at

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
CPU = torch.device("cpu")
ALL_ON: dict[str, Any] = {
    "symmetries": True,
    "crop_scale": [0.4, 1.0],
    "shift": 0.1,
    "size": 24,
    "brightness": 0.2,
    "contrast": 0.3,
    "saturation": 0.4,
    "hue": 0.1,
    "erasing": 0.5,
}


def random_images(num: int = 16, side: int = 32) -> Tensor:
    return torch.randint(1, 256, (num, side, side, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def coordinate_images(num: int, side: int) -> Tensor:
    """Red is the row, green the column, blue a constant."""
    position = torch.arange(side, dtype=torch.uint8)
    rows, columns = torch.meshgrid(position, position, indexing="ij")
    return torch.stack([rows, columns, torch.full_like(rows, 7)], dim=-1).expand(num, -1, -1, -1).contiguous()


def augment(images: Tensor, seed: int = 0, **config: Any) -> Tensor:
    augmentation = Augmentation(AugmentConfig(**config), MEAN, STD, images.device)
    return augmentation(images, Draws.draw(len(images), torch.Generator().manual_seed(seed)))


def pixels(inputs: Tensor) -> np.ndarray:
    """Undo the normalisation: (N, 3, S, S) -> (N, S, S, 3) on the 0..255 scale."""
    scaled = inputs.permute(0, 2, 3, 1) * torch.tensor(STD) + torch.tensor(MEAN)
    return (scaled * 255).double().numpy()


def symmetric_images(image: np.ndarray) -> list[np.ndarray]:
    """The eight symmetries of one image, by numpy."""
    return [np.rot90(flipped, turns) for flipped in (image, np.fliplr(image)) for turns in range(4)]


def normalised(images: Tensor) -> Tensor:
    return normalise(images, torch.tensor(MEAN), torch.tensor(STD))


# --- normalisation ---


def test_normalise_standardises_each_channel() -> None:
    images = random_images()
    expected = ((images.double() / 255 - torch.tensor(MEAN)) / torch.tensor(STD)).permute(0, 3, 1, 2)
    result = normalised(images)
    torch.testing.assert_close(result.double(), expected, atol=2e-6, rtol=0)
    assert result.is_contiguous(memory_format=torch.channels_last)


def test_normalise_writes_other_types() -> None:
    result = normalise(random_images(), torch.tensor(MEAN), torch.tensor(STD), torch.bfloat16)
    assert result.dtype == torch.bfloat16
    torch.testing.assert_close(result.float(), normalised(random_images()), atol=0.02, rtol=0)


def test_everything_off_is_normalise_bit_for_bit() -> None:
    assert torch.equal(augment(random_images()), normalised(random_images()))


# --- randomness ---


def test_result_is_a_function_of_the_generator() -> None:
    images = random_images()
    assert torch.equal(augment(images, seed=3, **ALL_ON), augment(images, seed=3, **ALL_ON))
    assert not torch.equal(augment(images, seed=3, **ALL_ON), augment(images, seed=4, **ALL_ON))


def test_some_images_of_a_batch_are_augmented_as_in_the_whole_batch() -> None:
    images, rows = random_images(), torch.tensor([3, 4, 11])
    draws = Draws.draw(len(images), torch.Generator().manual_seed(0))
    augmentation = Augmentation(AugmentConfig(**ALL_ON), MEAN, STD, CPU)
    torch.testing.assert_close(augmentation(images[rows], draws.of(rows)), augmentation(images, draws)[rows])


@pytest.mark.parametrize("part", [{name: value} for name, value in ALL_ON.items() if name != "erasing"])
def test_parts_leave_the_erased_rectangles_alone(part: dict[str, Any]) -> None:
    size = part.get("size", 32)
    both = augment(random_images(side=32), erasing=0.5, **part) == 0
    alone = augment(random_images(side=size), erasing=0.5) == 0
    assert alone.any() and torch.equal(both, alone)


@pytest.mark.parametrize("part", [{"symmetries": True}, {"crop_scale": [0.4, 1.0]}, {"shift": 0.2}, {"contrast": 0.3}])
def test_parts_leave_the_brightness_alone(part: dict[str, Any]) -> None:
    grey = torch.full((16, 32, 32, 3), 100, dtype=torch.uint8)  # what geometry and contrast do not change
    torch.testing.assert_close(augment(grey, brightness=0.4, **part), augment(grey, brightness=0.4))


def test_no_step_reads_the_images_back() -> None:
    """Tensors on the meta device hold no data: any read of one on the host would raise."""
    images = random_images().to("meta")
    inputs = augment(images, **ALL_ON)
    assert inputs.shape == (16, 3, 24, 24) and inputs.is_contiguous(memory_format=torch.channels_last)
    for config in (AugmentConfig(mixup=0.4), AugmentConfig(cutmix=1.0)):
        mix = Mixing(config).draw(16, torch.Generator().manual_seed(0), 0.0)
        assert mix is not None
        assert mix(inputs, inputs, mix.partners.to("meta"))[0].shape == inputs.shape


# --- geometry ---


def test_symmetries_are_exact_and_all_occur() -> None:
    images = random_images(num=128, side=8)
    seen = set()
    for image, result in zip(images, augment(images, symmetries=True), strict=True):
        candidates = np.stack(symmetric_images(image.numpy()))
        matches = [torch.equal(candidate, result) for candidate in normalised(torch.from_numpy(candidates))]
        assert sum(matches) == 1
        seen.add(matches.index(True))
    assert len(seen) == 8


def test_symmetries_follow_the_crop() -> None:
    geometry: dict[str, Any] = {"crop_scale": [0.3, 0.8], "shift": 0.1, "size": 20}
    cropped, both = augment(random_images(), **geometry), augment(random_images(), symmetries=True, **geometry)
    for one, other in zip(pixels(cropped), pixels(both), strict=True):
        assert sum(np.array_equal(candidate, other) for candidate in symmetric_images(one)) == 1


@pytest.mark.parametrize("size", [40, 100, 150])
def test_crops_stay_inside_and_keep_to_their_scale(size: int) -> None:
    side, low, high = 100, 0.3, 0.6
    crops = pixels(augment(coordinate_images(64, side), crop_scale=[low, high], size=size))
    first, last = size // 10, size - 1 - size // 10  # the filter is cut off at the border; linear from here to there
    sides, starts = [], []
    for channel, axis in ((0, 0), (1, 1)):
        values = crops[..., channel].mean(axis=2 - axis)  # (N, size): a ramp along the axis
        slope = (values[:, last] - values[:, first]) / (last - first)
        sides.append(slope * size)
        starts.append(values[:, first] + 0.5 - (first + 0.5) * slope)
    np.testing.assert_allclose(sides[0], sides[1], atol=2)  # square
    areas = np.mean(sides, axis=0) ** 2 / side**2
    assert areas.min() > low - 0.03 and areas.max() < high + 0.03
    assert areas.max() - areas.min() > 0.7 * (high - low)
    assert np.min(starts) > -1.5 and (np.array(starts) + sides).max() < side + 1.5
    places = np.array(starts) / (side - np.array(sides))  # 0..1 per direction
    assert np.ptp(places, axis=1).min() > 0.8  # anywhere in the image
    assert abs(np.corrcoef(places)[0, 1]) < 0.4


def test_shift_translates_within_its_range_and_mirrors_the_border() -> None:
    side, margin = 40, 8
    image = coordinate_images(1, side)[0].numpy()
    padded = np.pad(image, ((margin, margin), (margin, margin), (0, 0)), mode="reflect")
    offsets = []
    for result in np.round(pixels(augment(coordinate_images(64, side), shift=margin / side))):
        windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side), axis=(0, 1)).transpose(0, 1, 3, 4, 2)
        places = np.argwhere((windows == result).all(axis=(2, 3, 4)))
        assert len(places) == 1
        offsets.append(places[0] - margin)
    assert (np.min(offsets, axis=0) <= -margin + 1).all() and (np.max(offsets, axis=0) >= margin - 1).all()


@pytest.mark.parametrize("size", [8, 32, 80])
@pytest.mark.parametrize("num", [1, 3])
def test_resize_matches_antialiased_interpolation(size: int, num: int) -> None:
    images = random_images(num)
    expected = torch.nn.functional.interpolate(
        images.permute(0, 3, 1, 2).double(), size=(size, size), mode="bilinear", antialias=True
    )
    result = augment(images, size=size)
    assert result.shape == (num, 3, size, size)
    assert np.abs(pixels(result) - expected.permute(0, 2, 3, 1).numpy()).max() < 1.01  # rounded twice, per direction


@pytest.mark.parametrize("size", [10, 32, 50])
def test_accelerators_resample_as_the_host_does(size: int) -> None:
    images, boxes = random_images(4), torch.tensor([[0, 0, 32], [3, 5, 20], [12, 0, 20], [7, 9, 11]])
    symmetries = torch.arange(4) * 2 + 1
    on_host = resample_each(images, boxes, symmetries, size)
    still = torch.zeros(4, dtype=torch.int64)
    batched = move_pixels(resample_batch(images, boxes.float(), size), still, still, symmetries)
    torch.testing.assert_close(batched, on_host.float(), atol=1.01, rtol=0)


@pytest.mark.parametrize("margin", [0, 5, 31])
def test_a_gather_moves_pixels_as_boxes_are_cut(margin: int) -> None:
    images, symmetries = random_images(8), torch.arange(8)
    down, right = (torch.randint(-margin, margin + 1, (8,), generator=torch.Generator().manual_seed(i)) for i in (1, 2))
    down[0], right[1] = margin, -margin
    boxes = torch.stack([down + margin, right + margin, torch.full((8,), 32)], dim=1)
    wide = mirror_border(mirror_border(images, 1, margin), 2, margin) if margin else images
    assert torch.equal(move_pixels(images, down, right, symmetries), resample_each(wide, boxes, symmetries, 32))


def test_rejects_other_than_square_bytes() -> None:
    for images in (random_images()[:, :-1], random_images().float()):
        with pytest.raises(AssertionError, match="square uint8"):
            augment(images)


# --- colour ---


def reference_jitter(image: np.ndarray, config: AugmentConfig, uniforms: Sequence[float]) -> np.ndarray:
    """One image (H, W, 3) on the 0..1 scale, one operation after the other; uniforms in the same order."""
    strengths = (config.brightness, config.contrast, config.saturation)
    brightness, contrast, saturation = (
        1 + strength * (2 * uniform - 1) for strength, uniform in zip(strengths, uniforms[:3], strict=True)
    )
    image = image * brightness
    image = contrast * image + (1 - contrast) * (image @ LUMA).mean()
    image = saturation * image + (1 - saturation) * (image @ LUMA)[..., None]
    angle = 2 * np.pi * config.hue * (2 * uniforms[3] - 1)
    axis = np.full(3, 3**-0.5)
    along = (image @ axis)[..., None] * axis
    turned: np.ndarray = along + np.cos(angle) * (image - along) + np.sin(angle) * np.cross(axis, image)
    return turned


@pytest.mark.parametrize(
    "strengths",
    [
        {"brightness": 0.3},
        {"contrast": 0.4},
        {"saturation": 0.8},
        {"hue": 0.2},
        {"brightness": 0.3, "contrast": 0.4},
        {"brightness": 0.3, "contrast": 0.4, "saturation": 0.5, "hue": 0.1},
    ],
    ids=lambda strengths: "+".join(strengths),
)
@pytest.mark.parametrize("side", [32, 9])
def test_jitter_matches_the_operations_one_by_one(strengths: dict[str, Any], side: int) -> None:
    images = random_images(side=side)
    draws = Draws.draw(len(images), torch.Generator().manual_seed(0))
    uniforms = torch.stack([draws.brightness, draws.contrast, draws.saturation, draws.hue], dim=1).tolist()
    config = AugmentConfig(**strengths)
    expected = [
        reference_jitter(image / 255, config, numbers) for image, numbers in zip(images.numpy(), uniforms, strict=True)
    ]
    np.testing.assert_allclose(pixels(augment(images, **strengths)) / 255, np.stack(expected), atol=1e-5)


def test_colour_matrices_keep_their_promises() -> None:
    colour, grey = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64), torch.full((3,), 0.3, dtype=torch.float64)
    factors = torch.tensor([0.0, 1.0, 1.7])
    saturated = saturation_matrix(factors) @ colour
    torch.testing.assert_close(saturated[0], (colour @ torch.tensor(LUMA).double()).expand(3))
    torch.testing.assert_close(saturated[1], colour)
    turned = hue_matrix(torch.tensor([0.0, 1 / 3, -1 / 3], dtype=torch.float64)) @ colour
    torch.testing.assert_close(turned, torch.stack([colour, colour.roll(1), colour.roll(-1)]))
    for matrices in (saturation_matrix(factors), hue_matrix(factors)):
        torch.testing.assert_close(matrices @ grey, grey.expand(3, 3))


# --- erasing ---


def test_erased_rectangles_keep_to_their_ranges() -> None:
    inputs = torch.ones(400, 3, 64, 64)
    erase(inputs, 0.5, Draws.draw(400, torch.Generator().manual_seed(0)))
    erased = (inputs == 0).all(dim=1)  # (N, S, S)
    assert torch.equal(erased, (inputs == 0).any(dim=1))
    rectangles = erased[erased.any(dim=(1, 2))]
    assert rectangles.any(dim=(0, 1)).all() and rectangles.any(dim=(0, 2)).all()  # no row or column is spared
    assert 0.4 < len(rectangles) / 400 < 0.6
    heights, widths = rectangles.any(2).sum(1), rectangles.any(1).sum(1)
    assert torch.equal(heights * widths, rectangles.sum((1, 2)))  # filled rectangles
    areas, aspects = (heights * widths).float() / 64**2, heights / widths
    assert 0.015 < areas.min() < 0.04 and 0.17 < areas.max() < 0.215
    assert 0.25 < aspects.min() < 0.5 and 2 < aspects.max() < 3.8


def test_accelerators_erase_as_the_host_does() -> None:
    corners = torch.tensor([[0, 3, 0, 8], [2, 8, 1, 4], [0, 0, 0, 0], [5, 6, 5, 6]])
    inputs, expected = torch.ones(4, 3, 8, 8), torch.ones(4, 3, 8, 8)
    for image, (top, bottom, left, right) in zip(expected, corners.tolist(), strict=True):
        image[:, top:bottom, left:right] = 0
    erase_batch(inputs, corners)
    assert torch.equal(inputs, expected)


# --- mixing ---


def mix(num: int = 8, seed: int = 0, progress: float = 0.0, **config: Any) -> tuple[Tensor, float, Tensor]:
    """Mix images that are constant and equal to their label: the images, their own share, their partners' labels."""
    inputs = torch.arange(num).float()[:, None, None, None].expand(num, 3, 16, 16)
    inputs = inputs.contiguous(memory_format=torch.channels_last)
    drawn = Mixing(AugmentConfig(**config)).draw(num, torch.Generator().manual_seed(seed), progress)
    labels = torch.arange(num)
    return (*drawn(inputs, inputs, drawn.partners), drawn.partners) if drawn else (inputs, 1.0, labels)


@pytest.mark.parametrize(
    ("alphas", "share_blended"),
    [({"mixup": 0.4}, 1.0), ({"cutmix": 1.0}, 0.0), ({"mixup": 0.4, "cutmix": 1.0}, 0.5)],
)
def test_weights_equal_the_shares_of_the_pixels(alphas: dict[str, Any], share_blended: float) -> None:
    blended, weights = 0, []
    for seed in range(60):
        inputs, weight, partners = mix(seed=seed, **alphas)
        expected = weight * torch.arange(8) + (1 - weight) * partners
        torch.testing.assert_close(inputs.mean((1, 2, 3)), expected, atol=1e-4, rtol=0)
        assert sorted(partners.tolist()) == list(range(8))
        assert inputs.is_contiguous(memory_format=torch.channels_last)
        blended += bool((inputs.std((1, 2, 3)).max() == 0) and 0 < weight < 1)
        weights.append(weight)
    assert 0 <= min(weights) < 0.2 and 0.8 < max(weights) <= 1
    assert blended / 60 == pytest.approx(share_blended, abs=0.15)


def test_pasted_box_is_clipped_at_the_border() -> None:
    inputs, partners = torch.tensor([1.0, 0.0])[:, None, None, None].expand(2, 3, 16, 16), torch.tensor([1, 0])
    for centre, share in (((0.5, 0.5), 0.25), ((0.0, 1.0), 0.0625)):
        mixed, weight = paste(inputs, inputs, partners, 0.75, centre)
        assert weight == 1 - share and mixed[0].mean() == 1 - share and mixed[1].mean() == share
    assert torch.equal(paste(inputs, inputs, partners, 0.0, (0.5, 0.5))[0], inputs.flip(0))


@pytest.mark.parametrize(
    ("config", "progress"),
    [
        (AugmentConfig(), 0.0),
        (AugmentConfig(mixup=0.2, mix_epochs=0.8), 0.8),
        (AugmentConfig(cutmix=1.0, mix_probability=0.0), 0.0),
    ],
)
def test_mixing_off_draws_nothing_to_do(config: AugmentConfig, progress: float) -> None:
    assert Mixing(config).draw(4, torch.Generator().manual_seed(0), progress) is None


def test_mixing_keeps_to_its_share_of_batches() -> None:
    share = sum(mix(seed=seed, mixup=1.0, mix_probability=0.3)[1] < 1 for seed in range(200)) / 200
    assert share == pytest.approx(0.3, abs=0.1)


@pytest.mark.parametrize("part", ["mixup", "cutmix"])
def test_mixing_a_batch_of_one_changes_nothing(part: str) -> None:
    alphas: dict[str, Any] = {part: 1.0}
    inputs, _, partners = mix(num=1, **alphas)
    assert inputs.eq(0).all() and partners.tolist() == [0]


@pytest.mark.parametrize("config", [AugmentConfig(mixup=0.2), AugmentConfig(cutmix=1.0)])
def test_mixing_advances_the_generator_as_no_mixing_does(config: AugmentConfig) -> None:
    states = []
    for each in (config, AugmentConfig()):
        generator = torch.Generator().manual_seed(0)
        Mixing(each).draw(4, generator, 0.0)
        states.append(generator.get_state())
    assert torch.equal(*states)


def test_images_grow_to_their_full_size() -> None:
    config = AugmentConfig(size=96, start_size=64, grow_epochs=0.6)
    assert [size_at(config, 128, progress) for progress in (0, 0.29, 0.31, 0.59, 0.6, 1)] == [64, 64, 80, 80, 96, 96]
    assert size_at(AugmentConfig(start_size=20), 32, 0) == 20  # an odd difference is one step
    assert size_at(AugmentConfig(start_size=32), 32, 0) == 32
    assert size_at(AugmentConfig(size=24), 32, 0) == 24
    assert size_at(AugmentConfig(), 32, 0) == 32


def test_a_growing_batch_has_the_size_of_the_moment() -> None:
    augmentation = Augmentation(AugmentConfig(start_size=16), MEAN, STD, CPU)
    for progress, size in ((0.0, 16), (0.9, 32)):
        inputs = augmentation(random_images(), Draws.draw(16, torch.Generator()), progress)
        assert inputs.shape == (16, 3, size, size)
        assert inputs.is_contiguous(memory_format=torch.channels_last)

"""Crops, translations, resizing and the eight symmetries of the square.

A batch is described by one square box and one symmetry per image, both in whole pixels: the box is cut out, resized to
the output size with an antialiasing triangle filter, then flipped and transposed. Where a box already has the output
size nothing is interpolated, so symmetries and translations alone move pixels without changing them.

The host works image by image and stays in uint8, for which torch has a fast resize; an accelerator, where a launch per
image would dominate, resamples the batch by two matrix products. Both take the same boxes and apply the same filter;
they differ by the host's rounding to whole grey levels.

Measured on the host (batch 32, torch 2.15, 2 cores, allocator keeping memory, taken in turn, median of 13), images/s:

  =========================  =======  =======  =======
  side                         64 px    96 px   256 px
  =========================  =======  =======  =======
  crop, image by image        48,300   35,600    8,200
  crop, F.grid_sample         40,900   15,000    2,250
  crop, matrix products       23,400    8,900      800
  symmetry, image by image    86,700   45,600   15,800
  symmetry, one gather       148,000   59,600   10,700
  symmetry, 3 x torch.where   44,100   16,900    3,000
  =========================  =======  =======  =======
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from landuse.config.schema import AugmentConfig
from landuse.data.augment.draws import Draws, between, up_to

FLIP_ROWS, FLIP_COLUMNS, TRANSPOSE = 1, 2, 4  # bits of a symmetry, applied in this order
NUM_SYMMETRIES = 8


def transform(images: Tensor, config: AugmentConfig, draws: Draws, size: int) -> Tensor:
    """Apply the geometric parts of the configuration.

    Args:
        images: uint8 (N, H, H, 3).
        config: what is switched on.
        draws: this batch's random numbers.
        size: pixels of the result.

    Returns:
        (N, size, size, 3) on the 0..255 scale; uint8, or float32 where an accelerator resampled.
    """
    side = images.shape[1]
    resamples = config.crop_scale is not None or config.shift > 0 or size != side
    if not (resamples or config.symmetries):
        return images

    margin = min(round(config.shift * side), side - 1)
    symmetries = up_to(NUM_SYMMETRIES - 1, draws.symmetry) * config.symmetries  # (N,)
    boxes = _boxes(side, margin, config, draws)
    if margin:
        images = _mirror_border(_mirror_border(images, 1, margin), 2, margin)
    if images.device.type == "cpu":
        return resample_each(images, boxes, symmetries, size)
    if resamples:
        images = resample_batch(images, boxes.to(images.device, torch.float32, non_blocking=True), size)
    if config.symmetries:
        images = permute_batch(images, symmetries.to(images.device, non_blocking=True))
    return images


def _boxes(side: int, margin: int, config: AugmentConfig, draws: Draws) -> Tensor:
    """The box of each image: (N, 3) int64 of top, left, side, in pixels of the image with its mirrored margin.

    A crop alone stays inside the image; a shift then moves it by up to ``margin`` pixels either way.
    """
    if config.crop_scale is None:
        sides = torch.full_like(draws.crop_side, side, dtype=torch.int64)
    else:
        smallest, largest = config.crop_scale
        sides = (side * between(smallest, largest, draws.crop_side).sqrt()).round().long().clamp_(1, side)
    top = up_to(side - sides, draws.crop_top) + up_to(2 * margin, draws.shift_down)
    left = up_to(side - sides, draws.crop_left) + up_to(2 * margin, draws.shift_right)
    return torch.stack([top, left, sides], dim=1)


def _mirror_border(images: Tensor, dim: int, margin: int) -> Tensor:
    """Widen a dimension by its reflection, the border pixel itself not repeated; needs margin < length."""
    before = images.narrow(dim, 1, margin).flip(dim)
    after = images.narrow(dim, images.shape[dim] - 1 - margin, margin).flip(dim)
    return torch.cat([before, images, after], dim)


def resample_each(images: Tensor, boxes: Tensor, symmetries: Tensor, size: int) -> Tensor:
    """Cut, resize and permute image by image: uint8 (N, H, H, 3) -> uint8 (N, size, size, 3), all on the host."""
    resampled = images.new_empty(len(images), size, size, 3)
    parameters = zip(boxes.tolist(), symmetries.tolist(), strict=True)
    # Batches of one, not single images: only a batch's strides tell torch that a crop is channels_last, and its resize
    # of planar images is half as fast.
    for image, target, ((top, left, side), symmetry) in zip(torch.split(images, 1), resampled, parameters, strict=True):
        crop = image[:, top : top + side, left : left + side]
        if side != size:
            planes = crop.permute(0, 3, 1, 2)
            planes = F.interpolate(planes, size=(size, size), mode="bilinear", antialias=True)
            crop = planes.permute(0, 2, 3, 1)
        target.copy_(_permute(crop[0], symmetry))
    return resampled


def _permute(image: Tensor, symmetry: int) -> Tensor:
    """Apply one symmetry to a square (S, S, 3) image."""
    flipped = [dim for dim, bit in enumerate((FLIP_ROWS, FLIP_COLUMNS)) if symmetry & bit]
    image = image.flip(flipped) if flipped else image
    return image.transpose(0, 1) if symmetry & TRANSPOSE else image


def permute_batch(images: Tensor, symmetries: Tensor) -> Tensor:
    """Apply symmetries (N,) to (N, S, S, 3) by one gather of pixels, whose source indices are a sum of two vectors."""
    num, side = images.shape[:2]
    ascending = torch.arange(side, device=images.device)
    flip_rows, flip_columns, transpose = (
        (symmetries & bit).bool()[:, None] for bit in (FLIP_ROWS, FLIP_COLUMNS, TRANSPOSE)
    )
    rows = torch.where(flip_rows, side - 1 - ascending, ascending) * side  # (N, S)
    columns = torch.where(flip_columns, side - 1 - ascending, ascending)
    first = torch.arange(num, device=images.device)[:, None] * side**2
    down = first + torch.where(transpose, columns, rows)
    across = torch.where(transpose, rows, columns)
    source = (down[:, :, None] + across[:, None, :]).flatten()
    return images.reshape(-1, 3).index_select(0, source).view(images.shape)


def resample_batch(images: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Cut and resize by separable weights: (N, H, H, 3) -> float32 (N, size, size, 3); boxes float32 on the device."""
    num, side = images.shape[:2]
    top, left, box_side = boxes[:, :, None, None].unbind(1)  # (N, 1, 1) each
    rows = _triangle_weights(top, box_side, side, size) @ images.reshape(num, side, -1).float()
    columns = rows.view(num, size, side, 3).transpose(1, 2).reshape(num, side, -1)
    resampled = _triangle_weights(left, box_side, side, size) @ columns
    return resampled.view(num, size, size, 3).transpose(1, 2).contiguous()


def _triangle_weights(start: Tensor, length: Tensor, side: int, size: int) -> Tensor:
    """Weights (N, size, side) of the source pixels in each output pixel, for boxes given as (N, 1, 1) tensors.

    The filter of ``F.interpolate(mode="bilinear", antialias=True)``: a triangle as wide as one source pixel or, when
    shrinking, one output pixel; cut off at the box and scaled to sum to one.
    """
    source = torch.arange(side, device=start.device)
    scale = length / size
    centre = start + (torch.arange(size, device=start.device)[:, None] + 0.5) * scale - 0.5
    weights = (1 - (source - centre).abs() / scale.clamp_min(1)).clamp_min(0)
    weights = weights * ((source >= start) & (source < start + length))
    return weights / weights.sum(-1, keepdim=True)

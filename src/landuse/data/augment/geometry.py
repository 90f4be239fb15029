"""Crops, translations, resizing and the eight symmetries of the square.

A batch is described by one square box and one symmetry per image, both in whole pixels: the box is cut out, resized to
the output size with an antialiasing triangle filter, then flipped and transposed. Symmetries and translations alone
interpolate nothing: one gather moves the pixels of the whole batch.

Where boxes are resized, the host works image by image and stays in uint8, for which torch has a fast resize; an
accelerator, where a launch per image would dominate, resamples the batch by two matrix products. Both take the same
boxes and apply the same filter; they differ by the host's rounding to whole grey levels.

Measured on the host (batch 32, torch 2.15, 2 cores, allocator keeping memory, taken in turn, median of 13; "both" are
symmetry and translation, batch 64, median of 15, on another processor), images/s:

  =========================  =======  =======  =======
  side                         64 px    96 px   256 px
  =========================  =======  =======  =======
  crop, image by image        48,300   35,600    8,200
  crop, F.grid_sample         40,900   15,000    2,250
  crop, matrix products       23,400    8,900      800
  both, image by image        60,400   38,800    9,900
  both, one gather           168,400   90,100   14,500
  =========================  =======  =======  =======
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from landuse.config.schema import AugmentConfig
from landuse.data.augment.draws import Draws, between, up_to
from landuse.data.augment.transfer import to_device

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
    if not (config.crop_scale is not None or config.shift > 0 or size != side or config.symmetries):
        return images

    margin = min(round(config.shift * side), side - 1)
    symmetries = up_to(NUM_SYMMETRIES - 1, draws.symmetry) * config.symmetries  # (N,)
    boxes = _boxes(side, margin, config, draws)
    if config.crop_scale is None and size == side:  # whole pixels move, and none is interpolated
        down, right, symmetry = (boxes[:, 0] - margin, boxes[:, 1] - margin, symmetries)
        return move_pixels(images, *(to_device(each, images.device) for each in (down, right, symmetry)))
    if margin:
        images = mirror_border(mirror_border(images, 1, margin), 2, margin)
    if images.device.type == "cpu":
        return resample_each(images, boxes, symmetries, size)
    images = resample_batch(images, to_device(boxes, images.device, torch.float32), size)
    if config.symmetries:
        unmoved = torch.zeros(len(images), dtype=torch.int64, device=images.device)
        images = move_pixels(images, unmoved, unmoved, to_device(symmetries, images.device))
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


def mirror_border(images: Tensor, dim: int, margin: int) -> Tensor:
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


def move_pixels(images: Tensor, down: Tensor, right: Tensor, symmetries: Tensor) -> Tensor:
    """Move what each image shows, its border mirrored, then apply its symmetry, by one gather of whole pixels.

    Args:
        images: (N, S, S, 3) of any type.
        down: (N,) int64 on the same device, by how many pixels the view moves; less than S in size.
        right: (N,) likewise.
        symmetries: (N,) likewise.

    Returns:
        The same type and shape. The source of each pixel is a sum of two vectors, one for its row, one for its column.
    """
    num, side = images.shape[:2]
    # Half the bytes of int64: reading the indices takes longer than reading the pixels.
    index_type = torch.int32 if num * side**2 < 2**31 else torch.int64
    ascending = torch.arange(side, device=images.device, dtype=index_type)
    rows, columns = (_mirrored(ascending + by[:, None].to(index_type), side) for by in (down, right))  # (N, S)
    flip_rows, flip_columns, transpose = (
        (symmetries & bit).bool()[:, None] for bit in (FLIP_ROWS, FLIP_COLUMNS, TRANSPOSE)
    )
    rows = torch.where(flip_rows, rows.flip(1), rows) * side
    columns = torch.where(flip_columns, columns.flip(1), columns)
    first = torch.arange(num, device=images.device, dtype=index_type)[:, None] * side**2
    down_by, across = first + torch.where(transpose, columns, rows), torch.where(transpose, rows, columns)
    source = (down_by[:, :, None] + across[:, None, :]).flatten()
    return images.reshape(-1, 3).index_select(0, source).view(images.shape)


def _mirrored(positions: Tensor, side: int) -> Tensor:
    """Positions from beyond the image's border, reflected into it; the border pixel itself is not repeated."""
    return (side - 1) - ((side - 1) - positions.abs()).abs()


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

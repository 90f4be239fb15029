"""Normalisation, colour jitter and erasing.

Every colour operation is affine in a pixel's three channels, and so is the normalisation: a batch gets one composed
map per image and one pass over its pixels. Luma weights are those of ITU-R BT.601.

Measured on the host (batch 32, torch 2.15, 2 cores, allocator keeping memory, taken in turn, median of 13), images/s:

  ==========================================  =======  =======  =======
  side                                          64 px    96 px   256 px
  ==========================================  =======  =======  =======
  normalise, factors tiled along a row        331,000  110,000   25,000
  normalise, factors broadcast over pixels    175,000   66,700   12,700
  3x3 matrix, 4 pixels per product            191,000   87,800   12,100
  3x3 matrix, 8 pixels per product            146,000   80,600   10,200
  3x3 matrix, pixel by pixel                   79,300   35,400    5,000
  3x3 matrix, channel by channel               58,100   28,600    4,200
  erase, image by image                       310,000  254,000  114,000
  erase, broadcast mask                       151,000   63,300   10,200
  ==========================================  =======  =======  =======
"""

import math

import torch
from torch import Tensor

from landuse.config.schema import AugmentConfig
from landuse.data.augment.draws import Draws, between, up_to
from landuse.data.augment.transfer import to_device

LUMA = (0.299, 0.587, 0.114)
ERASED_AREA = (0.02, 0.2)  # of the image
ERASED_ASPECT = (0.3, 3.3)  # height / width
VALUES_IN_CACHE = 2**20  # of a batch that the host converts and scales at once, before it writes them out of its cache
GREY_ROWS = 64  # that tell an image's mean grey: all rows of a small image, some of a large one
PIXELS_PER_BLOCK = 4  # of the block-diagonal matrix product: BLAS is slow at 3 x 3 matrices


def normalise(images: Tensor, mean: Tensor, std: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Scale pixels to 0..1 and standardise each channel, in one pass.

    Args:
        images: uint8 (N, H, W, 3), on any device.
        mean: (3,) on the 0..1 scale, on the device of the images.
        std: likewise.
        dtype: floating-point type of the result.

    Returns:
        (N, 3, H, W) of the given type, a view of NHWC memory: channels_last without a copy.
    """
    return _scale_channels(images, 1 / (255 * std), -mean / std, dtype)


def _scale_channels(images: Tensor, gain: Tensor, offset: Tensor, dtype: torch.dtype) -> Tensor:
    """``images * gain + offset`` with gain and offset (3,) or (N, 1, 3); images (N, H, W, 3) -> (N, 3, H, W)."""
    num, height, width, channels = images.shape
    scaled = torch.empty(num, height, width * channels, dtype=dtype, device=images.device)
    rows = images.reshape(num, height, width * channels)
    # Tiled along the row the two vectors are as long as it, and the inner loop vectorises.
    gains, offsets = (_tile(each, width).expand(num, 1, -1) for each in (gain, offset))
    at_once = max(1, VALUES_IN_CACHE // rows[0].numel()) if images.device.type == "cpu" else num
    for start in range(0, num, at_once):
        some = slice(start, start + at_once)
        scaled[some] = rows[
            some
        ]  # converted apart from the arithmetic, as both vectorise and one that does both does not
        torch.addcmul(offsets[some], scaled[some], gains[some], out=scaled[some])
    return scaled.view(images.shape).permute(0, 3, 1, 2)


def _mix_channels(images: Tensor, matrix: Tensor, offset: Tensor) -> Tensor:
    """``pixel @ matrix + offset`` with matrix (N, 3, 3), offset (N, 1, 3); images (N, H, W, 3) -> (N, 3, H, W)."""
    num, height, width, _ = images.shape
    pixels = math.gcd(height * width, PIXELS_PER_BLOCK)
    blocks = torch.kron(torch.eye(pixels, device=images.device)[None], matrix.contiguous())  # (N, 3 pixels, 3 pixels)
    rows = images.reshape(num, -1, 3 * pixels).float()
    return torch.baddbmm(_tile(offset, pixels), rows, blocks).view(images.shape).permute(0, 3, 1, 2)


def _tile(channels: Tensor, times: int) -> Tensor:
    return channels.repeat(*[1] * (channels.dim() - 1), times)


class ColourJitter:
    """Brightness, contrast, saturation and hue, composed with the normalisation.

    In this order, as torchvision's ``ColorJitter`` would with that order, but without clamping to [0, 1] in between
    or after: a value outside does a network no harm, keeps what clamping would lose, and saves a pass.
    """

    def __init__(self, config: AugmentConfig, mean: Tensor, std: Tensor) -> None:
        self._config = config
        self._mean, self._std = mean, std
        self._luma = torch.tensor(LUMA, device=mean.device)

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        """(N, H, W, 3), uint8 or float on the 0..255 scale -> jittered, normalised float32 (N, 3, H, W)."""
        config = self._config
        mixes_channels = config.saturation > 0 or config.hue > 0
        if not (mixes_channels or config.brightness or config.contrast):
            return normalise(images, self._mean, self._std)

        brightness = _gain(config.brightness, draws.brightness)  # (N,), like all that follow
        contrast = _gain(config.contrast, draws.contrast)
        gain = self._to_device(brightness * contrast)[:, None, None] / (255 * self._std)  # (N, 1, 3)
        offset = -self._mean / self._std  # (3,)
        if config.contrast:
            # Saturation and hue leave greys alone, so contrast's grey offset passes through them unchanged.
            grey = self._to_device(brightness * (1 - contrast)) * _mean_grey(images, self._luma) / 255
            offset = grey[:, None, None] / self._std + offset
        if not mixes_channels:
            return _scale_channels(images, gain, offset, torch.float32)
        matrix = hue_matrix(config.hue * (2 * draws.hue - 1)) @ saturation_matrix(
            _gain(config.saturation, draws.saturation)
        )
        return _mix_channels(images, self._to_device(matrix).mT * gain, offset.expand(len(images), 1, 3))

    def _to_device(self, parameters: Tensor) -> Tensor:
        return to_device(parameters.float(), self._mean.device)


def _gain(strength: float, uniform: Tensor) -> Tensor:
    """Factor from [1 - strength, 1 + strength), not below zero."""
    return between(max(0.0, 1 - strength), 1 + strength, uniform)


def _mean_grey(images: Tensor, luma: Tensor) -> Tensor:
    """Mean luma of each image, of a large one by evenly spaced rows: (N, H, W, 3) -> (N,) float32."""
    images = images[:, :: max(1, images.shape[1] // GREY_ROWS)]
    num, height, width, _ = images.shape
    # Row on row first, which vectorises; a sum over single pixels does not and takes five times as long.
    columns = images.reshape(num, height, width * 3).sum(1, dtype=torch.float32)
    return columns.view(num, width, 3).sum(1) @ luma / (height * width)


def saturation_matrix(factor: Tensor) -> Tensor:
    """Blend of each pixel with its own grey: (N,) factors, 0 is grey and 1 the image, -> (N, 3, 3) float64."""
    blend = factor.double()[:, None, None]
    luma = torch.tensor(LUMA, dtype=torch.float64).expand(3, 3)
    return blend * torch.eye(3, dtype=torch.float64) + (1 - blend) * luma


def hue_matrix(turns: Tensor) -> Tensor:
    """Rotation about the grey axis (1, 1, 1) by Rodrigues' formula: (N,) fractions of a turn -> (N, 3, 3) float64.

    A third of a turn permutes the channels, as a rotation of the hue in HSV does; in between the two differ slightly.
    """
    angle = turns.double()[:, None, None] * (2 * math.pi)
    cross = torch.tensor([[0, -1, 1], [1, 0, -1], [-1, 1, 0]], dtype=torch.float64) / math.sqrt(3)
    return angle.cos() * torch.eye(3, dtype=torch.float64) + (1 - angle.cos()) / 3 + angle.sin() * cross


def erase(inputs: Tensor, probability: float, draws: Draws) -> None:
    """Set a random rectangle to zero, the data set's mean, in a share of the images. In place.

    Random erasing of Zhong et al. 2017 (arXiv:1708.04896) with its ranges narrowed to :data:`ERASED_AREA` and
    :data:`ERASED_ASPECT`, so that every rectangle fits and none has to be drawn again.

    Args:
        inputs: normalised (N, 3, S, S).
        probability: share of the images.
        draws: this batch's random numbers.
    """
    size = inputs.shape[-1]
    area = between(*ERASED_AREA, draws.erase_area)
    aspect = between(math.log(ERASED_ASPECT[0]), math.log(ERASED_ASPECT[1]), draws.erase_aspect).exp()
    height = (size * (area * aspect).sqrt()).round().long().clamp_(1, size)
    width = (size * (area / aspect).sqrt()).round().long().clamp_(1, size)
    top, left = up_to(size - height, draws.erase_top), up_to(size - width, draws.erase_left)
    corners = torch.stack([top, top + height, left, left + width], dim=1)  # (N, 4)
    corners = corners * (draws.erase < probability)[:, None]  # an empty rectangle erases nothing
    if inputs.device.type == "cpu":
        for image, (start, stop, first, last) in zip(inputs, corners.tolist(), strict=True):
            image[:, start:stop, first:last] = 0
    else:
        erase_batch(inputs, to_device(corners, inputs.device))


def erase_batch(inputs: Tensor, corners: Tensor) -> None:
    """One kernel for the whole batch, where launching one per image would cost more than touching every pixel."""
    position = torch.arange(inputs.shape[-1], device=inputs.device)
    start, stop, first, last = corners[:, :, None].unbind(1)  # (N, 1) each
    rows = (position >= start) & (position < stop)  # (N, S)
    columns = (position >= first) & (position < last)
    inputs.masked_fill_((rows[:, :, None] & columns[:, None, :])[:, None], 0)

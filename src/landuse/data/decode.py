"""From an image file's bytes to the square 8-bit RGB picture that is packed, with a note of whatever had to be done."""

import io
import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from landuse.data.limits import Limits, image_problem, tiff_problem
from landuse.errors import UserError

DEEP_MODES = ("I", "F")  # Pillow's names of 16-bit, 32-bit and float images of one channel begin with these
THUMBNAIL_PX = 32
BITS_PER_SAMPLE, SAMPLES_PER_PIXEL = 258, 277  # tags of the TIFF 6.0 specification
# What the conversion to RGB does to each of Pillow's modes; RGB itself needs none.
MODE_NOTES = {
    "1": "grey to RGB", "L": "grey to RGB", "LA": "grey to RGB, alpha dropped", "La": "grey to RGB, alpha dropped",
    "P": "palette to RGB", "PA": "palette to RGB, alpha dropped", "RGBA": "alpha dropped", "RGBa": "alpha dropped",
    "RGBX": "fourth band dropped", "CMYK": "CMYK to RGB", "YCbCr": "YCbCr to RGB", "LAB": "LAB to RGB",
    "HSV": "HSV to RGB",
}  # fmt: skip

# What is wrong with a file is said once, by the error, and not by Pillow as well.
logging.getLogger("PIL.TiffImagePlugin").setLevel(logging.CRITICAL)
warnings.filterwarnings("ignore", module=r"PIL\.")


class UnusableImageError(UserError):
    """An image that cannot be used.

    Attributes:
        reason: why, without naming the image.
    """

    status = 422  # of HTTP, for the service

    def __init__(self, origin: str, reason: str) -> None:
        super().__init__(f"{origin} {reason}")
        self.reason = reason


class UnknownFormatError(UnusableImageError):
    """No image, or one of a format that is not taken."""

    status = 415


class TooLargeError(UnusableImageError):
    """An image of more pixels than are taken."""

    status = 413


@dataclass(frozen=True)
class Decoded:
    """An image as it is packed, and what it was."""

    pixels: NDArray[np.uint8]  # (size, size, 3) RGB
    thumbnail: NDArray[np.uint8]  # (32, 32) grey, see :func:`make_thumbnail`
    width: int  # pixels, of the file
    height: int
    notes: tuple[str, ...] = ()  # conversions that were needed


def decode(content: bytes, origin: str, size_px: int, value_range: Sequence[float] | None = None) -> Decoded:
    """Decode, turn upright, cut the centre square and resize (bicubic, antialiased) to (size_px, size_px, 3) uint8 RGB.

    Args:
        content: the file.
        origin: names the image in errors.
        value_range: what becomes 0 and 255 in images of one channel with more than 8 bits; None refuses them.

    Raises:
        UnusableImageError: the content is not a readable image, or one that cannot be brought to RGB in one right way.
    """
    square, width, height, notes = _open_square(content, origin, size_px, value_range, None)
    return Decoded(np.asarray(square), make_thumbnail(square), width, height, notes)


def decode_square(
    content: bytes, origin: str, size_px: int, value_range: Sequence[float] | None = None, limits: Limits | None = None
) -> NDArray[np.uint8]:
    """The pixels (size_px, size_px, 3) alone that :func:`decode` gives, within limits where these are given.

    Raises:
        UnusableImageError: as :func:`decode`; or the image breaks a limit, is animated, or is made to take long.
    """
    return np.asarray(_open_square(content, origin, size_px, value_range, limits)[0])


def decode_whole(
    content: bytes, origin: str, value_range: Sequence[float] | None = None, limits: Limits | None = None
) -> Image.Image:
    """The whole upright image in RGB, neither cut nor resized.

    Raises:
        UnusableImageError: as :func:`decode_square`.
    """
    return _open_upright(content, origin, value_range, limits)[0]


def _open_square(
    content: bytes, origin: str, size_px: int, value_range: Sequence[float] | None, limits: Limits | None
) -> tuple[Image.Image, int, int, tuple[str, ...]]:
    """The square image, width and height of the file, and what had to be done."""
    upright, notes = _open_upright(content, origin, value_range, limits)
    width, height = upright.size
    side = min(width, height)
    if width != height:
        notes.append("not square, centre cut")
    if (width, height) != (size_px, size_px):
        left, top = (width - side) / 2, (height - side) / 2
        box = (left, top, left + side, top + side)
        upright = upright.resize((size_px, size_px), Image.Resampling.BICUBIC, box=box)
    return upright, width, height, tuple(notes)


def _open_upright(
    content: bytes, origin: str, value_range: Sequence[float] | None, limits: Limits | None
) -> tuple[Image.Image, list[str]]:
    """The whole image, and what had to be done."""
    if not content:
        raise UnusableImageError(origin, "is not a readable image (the file is empty): repair or remove it.")
    if limits is not None and (problem := tiff_problem(content, limits.max_pixels)) is not None:
        raise UnusableImageError(origin, problem)
    try:
        with Image.open(io.BytesIO(content), formats=limits.formats if limits else None) as opened:
            if limits is not None:
                _require_within(opened, content, origin, limits)
            return _to_rgb(opened, origin, value_range)
    except UnidentifiedImageError as error:
        raise UnknownFormatError(origin, _unidentified(content)) from error
    except (UserError, MemoryError):  # the latter tells about the machine, not about the image
        raise
    except Image.DecompressionBombError as error:
        raise TooLargeError(origin, f"is too large ({error}): cut or shrink it.") from error
    # Besides what Pillow documents, damaged TIFF directories raise TypeError, KeyError, struct.error and more.
    except Exception as error:
        raise UnusableImageError(origin, f"is not a readable image ({error}): repair or remove it.") from error


def _require_within(opened: Image.Image, content: bytes, origin: str, limits: Limits) -> None:
    """Nothing has been decoded yet: the file's header says what it would take."""
    width, height = opened.size
    if width * height > limits.max_pixels:
        largest = f"of {limits.max_pixels:,} at most"
        raise TooLargeError(origin, f"has {width} x {height} pixels, {largest}: cut or shrink it.")
    if (problem := image_problem(opened, content)) is not None:
        raise UnusableImageError(origin, problem)


def make_thumbnail(image: Image.Image) -> NDArray[np.uint8]:
    """A square RGB image as (32, 32) uint8 grey; what duplicates are found by.

    Of a mirrored image it is the mirrored one. Pillow's BOX filter would not keep to that where 32 does not divide the
    size, because it gives a pixel that lies in two boxes to one of them.
    """
    factor = image.width // THUMBNAIL_PX
    if factor * THUMBNAIL_PX != image.width:
        image = image.resize((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.HAMMING)
    elif factor > 1:
        image = image.reduce(factor)  # the same, faster
    return np.asarray(image.convert("L"))


def _to_rgb(opened: Image.Image, origin: str, value_range: Sequence[float] | None) -> tuple[Image.Image, list[str]]:
    """The image upright in RGB, and what that took."""
    notes = list(_left_out(opened))
    has_deep_colour = _has_deep_colour(opened)  # asked now: once loaded, an image does not tell any more
    image = opened
    if opened.getexif().get(0x0112, 1) != 1:  # the tag Orientation; 1 is upright
        image = ImageOps.exif_transpose(opened)
        notes.append("turned upright by its EXIF tag")
    if image.mode.startswith(DEEP_MODES) or has_deep_colour:
        return _scaled(image, origin, value_range), [*notes, "scaled to 8 bits"]
    if image.mode == "RGB":
        image.load()  # and no convert(), which would copy it
        return image, notes
    notes.append(MODE_NOTES.get(image.mode, f"{image.mode} to RGB"))
    return image.convert("RGB"), notes


def _has_deep_colour(opened: Image.Image) -> bool:
    """Whether Pillow opens it as 8-bit colour only by dropping what samples of more than 8 bits hold beyond that."""
    if opened.mode.startswith(DEEP_MODES):
        return False
    tags = getattr(opened, "tag_v2", {})
    if max(tags.get(BITS_PER_SAMPLE, (8,))) > 8:
        return True
    arguments = [tile[3] for tile in getattr(opened, "tile", [])]
    is_deep_ppm = opened.format == "PPM" and any(isinstance(a, tuple) and a[-1] > 255 for a in arguments)
    return is_deep_ppm or any(re.search(r";16[BLN]", str(a)) for a in arguments)  # "BGR;16" has 16 bits for all three


def _left_out(opened: Image.Image) -> Iterator[str]:
    """What Pillow passes over without a word."""
    bands = getattr(opened, "tag_v2", {}).get(SAMPLES_PER_PIXEL, 1)
    if opened.mode == "RGB" and bands > 3:
        yield f"first three of {bands} bands"
    if getattr(opened, "is_animated", False):  # counting pages would read them all
        yield "first of several pages"


def _scaled(image: Image.Image, origin: str, value_range: Sequence[float] | None) -> Image.Image:
    if not image.mode.startswith(DEEP_MODES):
        raise UnusableImageError(
            origin,
            "has colours of more than 8 bits a channel, and how to scale those is yours to decide: convert it to 8.",
        )
    if value_range is None:
        raise UnusableImageError(
            origin,
            f"has more than 8 bits a channel (mode {image.mode}), and how to scale those is yours to decide: give "
            "data.quality.value_range=[low,high], or convert it to 8 bits.",
        )
    low, high = value_range
    values = np.nan_to_num(np.asarray(image, dtype=np.float64), nan=low)
    grey = np.clip((values - low) / (high - low) * 255 + 0.5, 0, 255).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")


def _unidentified(content: bytes) -> str:
    """Why Pillow cannot open it; a TIFF of many bands is the common case in remote sensing."""
    bands, bits = _tiff_layout(content)
    if bands is not None and (bands > 1 or bits not in (1, 8)):
        return (
            f"has {bands} bands of {bits} bits that are not marked as RGB, and which to show as red, green and blue is "
            "yours to decide: make an 8-bit RGB copy (for example gdal_translate -b 4 -b 3 -b 2 -ot Byte -scale)."
        )
    return "is not a readable image (no known image format): repair or remove it."


def _tiff_layout(content: bytes) -> tuple[int | None, int | None]:
    """Samples per pixel and bits per sample of a TIFF; (None, None) for anything else."""
    if content[:4] not in (b"II*\0", b"MM\0*"):
        return None, None
    try:
        directory: Any = ImageFileDirectory_v2(content[:8])
        stream = io.BytesIO(content)
        stream.seek(directory.next)
        directory.load(stream)
        bits = directory.get(BITS_PER_SAMPLE, (1,))
        return int(directory.get(SAMPLES_PER_PIXEL, 1)), int(bits[0] if isinstance(bits, tuple) else bits)
    except Exception:  # a damaged directory can raise anything; then it is simply unreadable
        return None, None

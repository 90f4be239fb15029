"""What a stranger's image may cost, judged before it is decoded."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from PIL import Image

START_OF_SCAN = b"\xff\xda"
MOST_SCANS = 40  # of a progressive JPEG, which has about 10; each takes a pass over the whole image
MOST_STRIPS = 50_000  # of a TIFF, each of which becomes an object; a picture of 50,000 rows may have so many
STRIP_TAGS, TILE_WIDTH, TILE_LENGTH = (273, 279, 324, 325), 322, 323  # of TIFF 6.0: offsets and byte counts
RUN_LENGTH = (1, 2)  # of a BMP; unpacked byte by byte in Python
MANY_FRAMES = ("TIFF", "MPO")  # formats of which the first page is a picture by itself


@dataclass(frozen=True)
class Limits:
    """For images of strangers."""

    formats: tuple[str, ...]  # Pillow's names
    max_pixels: int  # width times height, as the file's header says


class _Tag(NamedTuple):
    number: int
    num_values: int
    value: int  # the first, where it stands in the tag itself


def tiff_problem(content: bytes, max_pixels: int) -> str | None:
    """Why a TIFF would take memory out of proportion to its size; None: it would not, or is none.

    Pillow makes an object for each strip and the library below a buffer for a tile, whatever the picture's size is.
    """
    for tag in _tags(content):
        if tag.number in STRIP_TAGS and tag.num_values > MOST_STRIPS:
            return f"has more than {MOST_STRIPS:,} strips: save it as an ordinary TIFF."
    sides = {tag.number: tag.value for tag in _tags(content)}
    if sides.get(TILE_WIDTH, 0) * sides.get(TILE_LENGTH, 0) > max_pixels:
        return f"has tiles of more than {max_pixels:,} pixels: save it as an ordinary TIFF."
    return None


def _tags(content: bytes) -> Iterator[_Tag]:
    """Of the first directory; what is cut short ends them, and is found to be damaged later."""
    order = {b"II": "<", b"MM": ">"}.get(content[:2], "")
    version = struct.unpack(f"{order}H", content[2:4])[0] if order and len(content) >= 16 else 0
    if version not in (42, 43):
        return
    is_big = version == 43
    start, size, entry = (content[8:16], 8, "HHQQ") if is_big else (content[4:8], 2, "HHII")
    at = struct.unpack(order + ("Q" if is_big else "I"), start)[0]
    count = int.from_bytes(content[at : at + size], "little" if order == "<" else "big")
    width = struct.calcsize(order + entry)
    for number in range(min(count, 1000)):
        place = at + size + number * width
        if place + width > len(content):
            return
        tag, kind, values, value = struct.unpack_from(order + entry, content, place)
        if kind == 3 and order == ">":  # 16 bits stand at the front of the field
            value >>= 48 if is_big else 16
        elif kind == 3:
            value &= 0xFFFF
        yield _Tag(tag, values, value)


def image_problem(opened: Image.Image, content: bytes) -> str | None:
    """Why an image of a bearable size would take long to decode; None: it would not."""
    if opened.format not in MANY_FRAMES and getattr(opened, "is_animated", False):
        return "is animated: send one picture."
    if opened.format in ("JPEG", "MPO") and content.count(START_OF_SCAN) > MOST_SCANS:
        return f"has more than {MOST_SCANS} scans: save it as an ordinary JPEG."
    if opened.format == "BMP" and opened.info.get("compression") in RUN_LENGTH:
        return "is a BMP with run-length compression: save it without, or as PNG."
    return None

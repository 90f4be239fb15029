"""Image files for the tests of the service."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

from tests.serving.tiny_model import picture


def encoded(name: str = "field", form: str = "PNG", size_px: int = 16, **options: object) -> bytes:
    """A picture of a class of the tiny model, as a file."""
    return saved(Image.fromarray(picture(name, size_px=size_px)), form, **options)


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def animated(form: str) -> bytes:
    """Three frames."""
    frames = [Image.fromarray(picture(name)) for name in ("field", "roof", "water")]
    return saved(frames[0], form, save_all=True, append_images=frames[1:], duration=100)


def deep_png() -> bytes:
    """16 bits of grey."""
    return saved(Image.fromarray(np.arange(256, dtype=np.uint16).reshape(16, 16) * 200), "PNG")


def bomb_png(side: int) -> bytes:
    """A PNG that says it has side x side pixels, all of one colour, packed a thousand times smaller."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    packer = zlib.compressobj(9)
    row = bytes(1 + 3 * side)
    content = b"".join([*(packer.compress(row) for _ in range(side)), packer.flush()])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", content) + chunk(b"IEND", b"")


def many_scans(side: int = 64) -> bytes:
    """A progressive JPEG whose last scan is repeated two hundred times."""
    content = saved(Image.fromarray(picture("field", size_px=side)), "JPEG", progressive=True)
    start = content.rindex(b"\xff\xda")
    return content[:start] + content[start:-2] * 200 + content[-2:]


def tiff(tags: dict[int, tuple[int, int, int]], num_pages: int = 1, padding: int = 0) -> bytes:
    """A little-endian TIFF of directories alone: tags as {number: (type, count, value)}, the same on every page."""
    size = 2 + 12 * len(tags) + 4
    pages = []
    for page in range(num_pages):
        entries = b"".join(struct.pack("<HHII", number, *tag) for number, tag in sorted(tags.items()))
        after = 0 if page == num_pages - 1 else 8 + (page + 1) * size
        pages.append(struct.pack("<H", len(tags)) + entries + struct.pack("<I", after))
    return b"II*\0" + struct.pack("<I", 8) + b"".join(pages) + bytes(padding)


GREY = {256: (3, 1, 16), 257: (3, 1, 16), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1), 277: (3, 1, 1)}
MANY_PAGES = tiff({**GREY, 273: (4, 1, 8), 278: (3, 1, 16), 279: (4, 1, 256)}, num_pages=2000, padding=300)
MANY_STRIPS = tiff({**GREY, 273: (1, 200_000, 8), 279: (1, 200_000, 8)}, padding=200_000)
HUGE_TILES = tiff({**GREY, 259: (3, 1, 8), 322: (4, 1, 26_000), 323: (4, 1, 26_000), 324: (4, 1, 8), 325: (4, 1, 99)})
RUNS = b"BM" + struct.pack("<IHHI", 60, 0, 0, 58) + struct.pack("<IiiHHIIiiII", 40, 900_000, 1, 1, 8, 1, 2, 0, 0, 1, 1)
RUNS += bytes(4) + b"\0\1"

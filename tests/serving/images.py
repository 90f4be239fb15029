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

"""Every kind of file that a dataset may hold: converted where there is one right way, else refused with the reason."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from landuse.data.decode import UnusableImageError, decode, decode_square, make_thumbnail

PIXELS = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def png(pixels: np.ndarray, mode: str = "RGB") -> bytes:
    return encoded(Image.fromarray(pixels).convert(mode))


def deep_png(pixels: np.ndarray) -> bytes:
    """A PNG of 16 bits a channel, which Pillow cannot write: (H, W, 3) uint16."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def tiff(num_bands: int, num_bits: int, size_px: int = 8) -> bytes:
    """An uncompressed TIFF of any number of bands, as satellites' products have them."""
    data = bytes(size_px * size_px * num_bands * num_bits // 8)
    tags = {
        256: size_px,
        257: size_px,
        258: num_bits,
        259: 1,
        262: 1,
        273: 0,
        277: num_bands,
        278: size_px,
        279: len(data),
    }
    tags[273] = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0) + data


def test_exact_at_full_size() -> None:
    decoded = decode(png(PIXELS), "x", 16)
    assert np.array_equal(decoded.pixels, PIXELS)
    assert (decoded.width, decoded.height, decoded.notes) == (16, 16, ())


@pytest.mark.parametrize(
    ("mode", "form", "note"),
    [
        ("L", "PNG", "grey to RGB"),
        ("1", "PNG", "grey to RGB"),
        ("LA", "PNG", "grey to RGB, alpha dropped"),
        ("P", "PNG", "palette to RGB"),
        ("RGBA", "PNG", "alpha dropped"),
        ("CMYK", "TIFF", "CMYK to RGB"),
        ("CMYK", "JPEG", "CMYK to RGB"),
        ("L", "TIFF", "grey to RGB"),
    ],
)
def test_every_mode_becomes_rgb_and_is_noted(mode: str, form: str, note: str) -> None:
    decoded = decode(encoded(Image.fromarray(PIXELS).convert(mode), form), "x", 8)
    assert decoded.pixels.shape == (8, 8, 3)
    assert decoded.pixels.dtype == np.uint8
    assert decoded.notes == (note,)


def test_single_band_geotiff() -> None:
    assert decode(tiff(1, 8), "x", 8).notes == ("grey to RGB",)


def test_the_centre_is_cut() -> None:
    wide = np.zeros((10, 30, 3), dtype=np.uint8)
    wide[:, 10:20] = 200
    decoded = decode(png(wide), "x", 10)
    assert np.array_equal(decoded.pixels, np.full((10, 10, 3), 200))
    assert (decoded.width, decoded.height, decoded.notes) == (30, 10, ("not square, centre cut",))


def test_turned_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by a quarter
    decoded = decode(encoded(Image.fromarray(PIXELS), exif=exif), "x", 16)
    assert np.array_equal(decoded.pixels, np.rot90(PIXELS, -1))
    assert decoded.notes == ("turned upright by its EXIF tag",)


@pytest.mark.parametrize("planar", [1, 2])
def test_colours_of_sixteen_bits_are_never_cut_to_eight(planar: int) -> None:
    """Pillow opens these as if they had eight bits."""
    height = width = 4
    samples = np.array([3000, 1000, 500], "<u2")
    image = np.broadcast_to(samples, (height, width, 3))
    content = np.ascontiguousarray(image if planar == 1 else image.transpose(2, 0, 1)).tobytes()
    strips = 1 if planar == 1 else 3
    entries, extra, start = [], b"", 8 + 2 + 10 * 12 + 4

    def entry(tag: int, kind: int, values: list[int]) -> None:
        nonlocal extra
        packed = struct.pack(f"<{len(values)}{'H' if kind == 3 else 'I'}", *values)
        if len(packed) > 4:
            packed, extra = struct.pack("<I", start + len(extra)), extra + packed
        entries.append(struct.pack("<HHI", tag, kind, len(values)) + packed.ljust(4, b"\0"))

    data = start + 6 + strips * 8
    sizes = [len(content) // strips] * strips
    for tag, kind, values in (
        (256, 3, [width]), (257, 3, [height]), (258, 3, [16, 16, 16]), (259, 3, [1]), (262, 3, [2]),
        (273, 4, [data + sum(sizes[:i]) for i in range(strips)]), (277, 3, [3]), (278, 3, [height]),
        (279, 4, sizes), (284, 3, [planar]),
    ):  # fmt: skip
        entry(tag, kind, values)
    tiff = b"II*\0" + struct.pack("<IH", 8, len(entries)) + b"".join(entries) + b"\0" * 4 + extra
    ppm = b"P6\n4 4\n65535\n" + np.ascontiguousarray(image).astype(">u2").tobytes()
    for file in (tiff.ljust(data, b"\0") + content, ppm):
        with pytest.raises(UnusableImageError, match="more than 8 bits|bands of 16 bits"):
            decode(file, "x", 4)


def test_bands_and_pages_that_are_passed_over_are_noted() -> None:
    pages = io.BytesIO()
    first, second = (Image.fromarray(np.full((8, 8, 3), value, np.uint8)) for value in (10, 200))
    first.save(pages, "TIFF", save_all=True, append_images=[second])
    decoded = decode(pages.getvalue(), "x", 8)
    assert decoded.notes == ("first of several pages",) and decoded.pixels.max() == 10


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"not an image", "no known image format"),
        (png(PIXELS)[:60], "truncated"),
        (encoded(Image.fromarray(PIXELS).resize((64, 64)), "JPEG")[:700], "truncated"),
        (tiff(1, 8)[:60], "not a readable image"),
        (tiff(13, 16), "13 bands of 16 bits"),
        (tiff(2, 8), "2 bands of 8 bits"),
        (deep_png(np.zeros((16, 16, 3), np.uint16)), "colours of more than 8 bits"),
    ],
)
def test_unusable_images_are_named_with_the_reason(content: bytes, reason: str, capfd) -> None:
    with pytest.raises(UnusableImageError, match="forest/a.png") as raised:
        decode(content, "forest/a.png", 16)
    assert reason in raised.value.reason
    assert "forest/a.png" not in raised.value.reason
    assert capfd.readouterr().err == ""  # Pillow says nothing of its own


def test_a_picture_that_unpacks_to_gigabytes_is_refused_by_its_header() -> None:
    bomb = bytearray(png(PIXELS))
    bomb[16:24] = struct.pack(">II", 60_000, 60_000)
    bomb[29:33] = struct.pack(">I", zlib.crc32(bomb[12:29]))
    with pytest.raises(UnusableImageError, match="3600000000 pixels"):
        decode(bytes(bomb), "x", 16)


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32])
def test_deep_images_need_a_range(kind: type) -> None:
    content = encoded(Image.fromarray(np.linspace(0, 3000, 256).reshape(16, 16).astype(kind)), "TIFF")
    with pytest.raises(UnusableImageError, match=r"more than 8 bits a channel.*value_range"):
        decode(content, "x", 16)
    decoded = decode(content, "x", 16, value_range=(1000, 2000))
    assert decoded.notes == ("scaled to 8 bits",)
    values = np.linspace(0, 3000, 256).reshape(16, 16)
    expected = np.clip((values - 1000) / 1000 * 255, 0, 255)
    assert np.abs(decoded.pixels[..., 0] - expected).max() <= 1
    assert np.array_equal(decoded.pixels[..., 0], decoded.pixels[..., 2])


@pytest.mark.parametrize("size_px", [16, 32, 64, 100])
def test_thumbnail(size_px: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (size_px, size_px, 3), dtype=np.uint8)
    thumbnail = make_thumbnail(Image.fromarray(pixels))
    assert thumbnail.shape == (32, 32)
    assert thumbnail.mean() == pytest.approx(
        pixels @ [0.299, 0.587, 0.114] @ np.ones(size_px) @ np.ones(size_px) / size_px**2, abs=1
    )


@pytest.mark.parametrize("size", [(37, 53), (16, 16), (200, 20)])
def test_pixels_alone_are_those_of_a_pack(size: tuple[int, int]) -> None:
    content = png(np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8))
    assert (decode_square(content, "x", 16) == decode(content, "x", 16).pixels).all()

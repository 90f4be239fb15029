"""Folders of PNG images for the benchmarks: an archive's images, or the embedded dataset's, at any size."""

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from landuse.data.synthetic import CLASSES, draw_scene


def write_pngs(root: Path, per_class: int, side: int, archive: str | None = None) -> int:
    """Write ``root/<class>/<number>.png``, so many of each class and of so many pixels a side; how many in all."""
    counts: dict[str, int] = {}
    for name, image in _images(archive, per_class, side):
        number = counts[name] = counts.get(name, 0) + 1
        if number <= per_class:
            path = root / name / f"{number:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.resize((side, side), Image.Resampling.BICUBIC).save(path)
    return sum(min(count, per_class) for count in counts.values())


def _images(archive: str | None, per_class: int, side: int) -> Iterator[tuple[str, Image.Image]]:
    if archive is None:
        for name in CLASSES:
            for number in range(per_class):
                yield name, Image.fromarray(draw_scene(name, 0, number, side))
        return
    with zipfile.ZipFile(archive) as file:
        names = [name for name in file.namelist() if name.lower().endswith((".jpg", ".tif", ".png"))]
        for name in sorted(names):
            yield Path(name).parent.name, Image.open(io.BytesIO(file.read(name))).convert("RGB")

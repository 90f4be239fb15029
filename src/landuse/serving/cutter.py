"""A process that decodes one large image and cuts it: ``python -m landuse.serving.cutter``, a service's child.

It lives as long as one map is made, so that no image, whatever it does to the libraries that decode it, is in the
service's own memory, and none outlives its request.
"""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from landuse.data.decode import UnusableImageError, decode_whole
from landuse.mapping.plan import Axis, Chunk, Grid
from landuse.mapping.tiles import cut
from landuse.serving.messages import CutTiles, Opened, OpenScene
from landuse.serving.worker import NO_MEMORY, run

JPEG_QUALITY = 80  # of the preview


class _Cutter:
    """The image of this process."""

    def __init__(self) -> None:
        self._image = Image.new("RGB", (1, 1))

    def handle(self, message: OpenScene | CutTiles) -> Any:
        return self._open(message) if isinstance(message, OpenScene) else self._cut(message)

    def _open(self, asked: OpenScene) -> Opened | tuple[int, str]:
        try:
            self._image = decode_whole(asked.content, "The file", asked.value_range, asked.limits)
        except UnusableImageError as error:
            return error.status, str(error)
        except MemoryError:
            return NO_MEMORY
        scale = min(1, asked.preview_px / max(self._image.size))
        width, height = (max(1, round(scale * side)) for side in self._image.size)
        small = self._image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=2.0)
        stream = io.BytesIO()
        small.save(stream, "JPEG", quality=JPEG_QUALITY)
        return Opened(*self._image.size, stream.getvalue())

    def _cut(self, asked: CutTiles) -> NDArray[np.uint8]:
        """Of the image no more is copied than these windows cover: Pillow takes four bytes a pixel for it already."""
        width, height = self._image.size
        grid = Grid(Axis(height, asked.tile, asked.stride), Axis(width, asked.tile, asked.stride))
        chunk = Chunk(0, range(asked.row, asked.row + 1), asked.columns)
        rows, columns = grid.pixels_of(chunk)
        pixels = np.asarray(self._image.crop((columns.start, rows.start, columns.stop, rows.stop)))
        return cut(grid, chunk, pixels, None, np.ones(chunk.num_windows, np.bool_), asked.size_px)


if __name__ == "__main__":
    run(_Cutter().handle)

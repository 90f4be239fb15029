"""Scenes: large images on disk or on a server, of which a part at a time is read as 8-bit RGB."""

import logging
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from landuse.addresses import named, without_passwords
from landuse.data.workers import num_workers
from landuse.errors import UserError
from landuse.mapping.ground import Ground

if TYPE_CHECKING:
    from rasterio import DatasetReader
    from rasterio.crs import CRS

SUFFIXES = (".tif", ".tiff", ".vrt", ".jp2", ".png", ".jpg", ".jpeg", ".img")
CACHE_MB = 128  # decoded blocks that GDAL keeps, of all threads together; its own choice is a share of the memory
ROWS_SCALED = 64  # at once
CURE = "Copy it again, or open it with gdalinfo to see more."
REMOTE_CURE = "Check address and account, or download it: servers that send no parts of a file cannot be read from."
FULL_BYTES = 2**20  # left on a disk, of which GDAL says no more than that it could not write
NOT_PLACED = "Dataset has no geotransform"  # what rasterio warns of, and we say ourselves
GDAL_OPTIONS: dict[str, Any] = {
    "GDAL_CACHEMAX": CACHE_MB * 2**20,
    "CPL_VSIL_CURL_USE_HEAD": "NO",  # signed addresses are for GET alone
    "GDAL_HTTP_CONNECTTIMEOUT": 10,
    "GDAL_HTTP_LOW_SPEED_TIME": 30,
    "GDAL_HTTP_LOW_SPEED_LIMIT": 1,
    "GDAL_HTTP_MAX_RETRY": 3,
    "GDAL_HTTP_RETRY_DELAY": 1,
    "VSI_CACHE": True,
}

warnings.filterwarnings("ignore", message=NOT_PLACED)
logging.getLogger("rasterio").setLevel(logging.CRITICAL)  # what is wrong with a file is said once, by the error


class Pixels(NamedTuple):
    """A part of a scene."""

    colours: NDArray[np.uint8]  # (H, W, 3) RGB
    valid: NDArray[np.bool_] | None  # (H, W) where there are data; None: everywhere


@dataclass(frozen=True)
class Scene:
    """What a scene is and how it is read; see :func:`landuse.mapping.describe.describe`.

    Attributes:
        path: as the user gave it.
        address: as GDAL takes it.
        width: pixels.
        height: pixels.
        crs: None: it names none.
        transform: six numbers, affine, from (column, row) to coordinates; None: it has no place on the ground.
        bands: numbers of the bands that are read, one or three, from 1.
        band_names: what they are called.
        files: that it consists of, as far as they are on a disk.
        dtype: of the bands.
        value_range: what becomes 0 and 255; None: the values are 8-bit colours already.
        range_rule: how that was chosen, in words.
        palette: (256, 4) RGBA of the values of a single band; None: it has none.
        may_lack_data: whether it has nodata, a mask or transparency.
        nodata: the value, for people.
    """

    path: str
    address: str
    width: int
    height: int
    crs: "CRS | None"
    transform: tuple[float, ...] | None
    bands: tuple[int, ...]
    band_names: tuple[str, ...]
    files: tuple[str, ...]
    dtype: str
    value_range: tuple[float, float] | None
    range_rule: str
    may_lack_data: bool
    nodata: float | None
    palette: NDArray[np.uint8] | None = field(default=None, repr=False, compare=False)

    @property
    def pixel_bytes(self) -> int:
        """Of a pixel of the bands that are read, as the file has it, and at least as 8-bit RGB."""
        return max(3, len(self.bands) * np.dtype(self.dtype).itemsize)

    @cached_property
    def ground(self) -> Ground | None:
        """Where it lies; None: nobody knows, or its coordinates lead to no place on the earth."""
        from affine import Affine

        if self.crs is None or self.transform is None or not (self.crs.is_projected or self.crs.is_geographic):
            return None
        ground = Ground(self.crs, Affine(*self.transform), self.width, self.height)
        try:
            ground.pixel_size()
        except ValueError:
            return None
        return ground

    @contextmanager
    def opened(self) -> Iterator["Reader"]:
        """A reader for one thread.

        Raises:
            UserError: it cannot be opened any more.
        """
        with opened(self.path, self.address) as dataset:
            yield Reader(self, dataset)


class Reader:
    """Reads parts of a scene; belongs to one thread."""

    def __init__(self, scene: Scene, dataset: "DatasetReader") -> None:
        self.scene, self._dataset = scene, dataset
        self._table = _table(scene.dtype, scene.value_range)

    def read(self, rows: slice, columns: slice) -> Pixels:
        """The pixels of these rows and columns.

        Raises:
            UserError: the file is damaged there, or cannot be reached.
        """
        from rasterio.windows import Window

        scene, window = self.scene, Window.from_slices(rows, columns)
        bands = list(scene.bands)
        values = np.empty((rows.stop - rows.start, columns.stop - columns.start, len(bands)), scene.dtype)
        with explained(scene.path, f" at row {rows.start}, column {columns.start}"):
            # Into place, pixel by pixel as most files have them: turning the axes afterwards takes as long as decoding.
            self._dataset.read(bands, window=window, out=np.moveaxis(values, 2, 0))
            masks = self._dataset.read_masks(bands, window=window) if scene.may_lack_data else None
        valid = None if masks is None else self._valid(values, masks)
        return Pixels(self._colours(values), None if valid is None or valid.all() else valid)

    def valid(self, rows: slice, columns: slice) -> NDArray[np.bool_] | None:
        """Where there are data (H, W); None: everywhere.

        Raises:
            UserError: as :meth:`read`.
        """
        from rasterio.windows import Window

        scene = self.scene
        if not scene.may_lack_data:
            return None
        if scene.palette is not None or np.dtype(scene.dtype).kind == "f":  # the values themselves say it
            return self.read(rows, columns).valid
        with explained(scene.path, f" at row {rows.start}, column {columns.start}"):
            masks = self._dataset.read_masks(list(scene.bands), window=Window.from_slices(rows, columns))
        valid: NDArray[np.bool_] = masks.max(axis=0) > 0
        return None if valid.all() else valid

    def _valid(self, values: NDArray[Any], masks: NDArray[np.uint8]) -> NDArray[np.bool_]:
        valid: NDArray[np.bool_] = masks.max(axis=0) > 0
        if values.dtype.kind == "f":
            valid &= np.isfinite(values).all(axis=2)
        if self.scene.palette is not None:
            valid &= self.scene.palette[values[..., 0], 3] > 0
        return valid

    def _colours(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        scene = self.scene
        if scene.palette is not None:
            return scene.palette[values[..., 0], :3]
        if self._table is not None:
            values = self._table[values.view(f"u{values.dtype.itemsize}")]
        elif scene.value_range is not None:
            values = _scaled(values, scene.value_range)
        return values if values.shape[2] == 3 else values.repeat(3, axis=2)


def _scaled(values: NDArray[Any], value_range: tuple[float, float]) -> NDArray[np.uint8]:
    """As :func:`landuse.data.decode.decode` scales them."""
    low, high = value_range
    scaled = np.empty(values.shape, np.uint8)
    for start in range(0, len(values), ROWS_SCALED):  # in float64, which all at once would be eight times the scene
        numbers = np.nan_to_num(values[start : start + ROWS_SCALED].astype(np.float64), nan=low)
        scaled[start : start + ROWS_SCALED] = np.clip((numbers - low) / (high - low) * 255 + 0.5, 0, 255)
    return scaled


def _table(dtype: str, value_range: tuple[float, float] | None) -> NDArray[np.uint8] | None:
    """The scaled values of all that a small integer can be: looking one up is ten times as fast as the arithmetic."""
    kind = np.dtype(dtype)
    if value_range is None or kind.kind not in "ui" or kind.itemsize > 2:
        return None
    return _scaled(np.arange(2 ** (8 * kind.itemsize), dtype=f"u{kind.itemsize}").view(kind), value_range)


def environment(address: str = "") -> Any:
    """What rasterio is used in: bounded caches and times, and the account for gs:// where there is one."""
    import rasterio

    options = GDAL_OPTIONS | {"GDAL_NUM_THREADS": num_workers()}  # of the decoders that can use them
    if emulator := os.environ.get("STORAGE_EMULATOR_HOST"):  # as Google's own libraries take it
        options |= {"CPL_GS_ENDPOINT": emulator.rstrip("/") + "/"}
    if not any(os.environ.get(name) for name in ("GOOGLE_APPLICATION_CREDENTIALS", "GS_OAUTH2_REFRESH_TOKEN")):
        options |= {"GS_NO_SIGN_REQUEST": "YES"}  # public objects need no account
    if "://" in address:  # a server is not asked for its whole folder; on a disk masks and world files lie there
        options |= {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"}
    return rasterio.Env(**options)


def gdal_errors() -> tuple[type[Exception], ...]:
    """What rasterio raises: errors of its own, and those of GDAL's that it hands on."""
    from rasterio._err import CPLE_BaseError
    from rasterio.errors import RasterioError

    return RasterioError, CPLE_BaseError


@contextmanager
def opened(path: str, address: str) -> Iterator["DatasetReader"]:
    """A dataset of GDAL's.

    Raises:
        UserError: it cannot be opened.
    """
    import rasterio

    with environment(address):
        with explained(path, ""):
            dataset = rasterio.open(address)
        with dataset:
            yield dataset


@contextmanager
def explained(path: str, where: str) -> Iterator[None]:
    """Damage, as what a user can do something about.

    Raises:
        UserError: the block failed in GDAL.
    """
    known: tuple[type[Exception], ...] = (*gdal_errors(), OSError)
    try:
        yield
    except known as error:
        cause = error.__cause__ or error
        reason = " ".join(str(without_passwords(str(cause))).split())[:300]
        raise UserError(
            f"{named(path)} cannot be read{where} ({reason}): it is no image that GDAL reads, is damaged, cut short or "
            f"out of reach. {REMOTE_CURE if '://' in path else CURE}"
        ) from error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What GDAL says when it cannot write, as what a user can do something about.

    Raises:
        UserError: the block failed in GDAL.
    """
    try:
        yield
    except gdal_errors() as error:
        reason = " ".join(str(error.__cause__ or error).split())[:300]
        if shutil.disk_usage(path.parent).free < FULL_BYTES:
            reason = "the disk is full"
        raise UserError(
            f"{path} cannot be written ({reason}): make room or allow writing there, or choose another folder with "
            "output=PATH."
        ) from error

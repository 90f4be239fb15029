"""What a pixel of a scene measures on the ground, whatever coordinate system the scene is in.

Metres are those of the WGS 84 ellipsoid: a step of a pixel is carried to longitude and latitude and measured there.
Degrees, feet, Web Mercator (whose metres are true at the equator alone) and rotated grids so need no case of their own.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from affine import Affine
    from rasterio.crs import CRS

# WGS 84 (NIMA TR8350.2): semi-major axis in metres and squared first eccentricity.
SEMI_MAJOR, ECCENTRICITY_2 = 6_378_137.0, 0.00669437999014
RIGHT_ANGLE = 90 + 1e-6  # degrees
STEP = 0.5  # pixels, to either side
# Up to this difference between a projection's own areas and those of the ellipsoid, its own count: they are what every
# GIS reckons with, and in UTM and national grids they differ by some tenths of a per cent at most.
LARGEST_DISTORTION = 0.01
BLOCK = 512  # pixels along a side, that are reckoned as large as the one in their middle

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Ground:
    """Where a scene lies.

    Attributes:
        crs: its coordinate system.
        transform: from columns and rows to coordinates.
        width: of the scene in pixels.
        height: of the scene in pixels.
    """

    crs: "CRS"
    transform: "Affine"
    width: int
    height: int

    def pixel_size(self) -> tuple[float, float]:
        """Metres that a pixel of the scene's centre measures across and down.

        Raises:
            ValueError: the centre has no place on the ground.
        """
        across, down = self._steps(np.array([self.width / 2]), np.array([self.height / 2]))
        sizes = float(np.linalg.norm(across)), float(np.linalg.norm(down))
        if not all(math.isfinite(size) and size > 0 for size in sizes):
            raise ValueError("its centre has no place on the ground")
        return sizes

    def pixel_areas(self, columns: FloatArray, rows: FloatArray) -> FloatArray:
        """Square metres of the pixels at these places of the scene, shape as given; 0 where there is no ground."""
        if self._own_area is not None:
            return np.full(columns.shape, self._own_area)
        return np.nan_to_num(self._true_areas(columns, rows))

    def block_areas(self) -> FloatArray:
        """Square metres of a pixel of each block of the scene, (rows of blocks, columns of blocks)."""
        starts = (np.arange(0, length, BLOCK) for length in (self.height, self.width))
        rows, columns = (
            (start + np.minimum(start + BLOCK, length)) / 2
            for start, length in zip(starts, (self.height, self.width), strict=True)
        )
        return self.pixel_areas(*(places.copy() for places in np.meshgrid(columns, rows)))

    @property
    def is_planar(self) -> bool:
        """Whether areas are the projection's own."""
        return self._own_area is not None

    @cached_property
    def _own_area(self) -> float | None:
        """Of every pixel, in the projection's square metres; None: they are not those of the ground everywhere."""
        if not self.crs.is_projected:
            return None
        own = abs(self.transform.determinant) * self.crs.linear_units_factor[1] ** 2
        edges = (np.array([STEP, length / 2, length - STEP]) for length in (self.width, self.height))
        true = self._true_areas(*np.meshgrid(*edges))
        is_true = np.abs(true / own - 1) <= LARGEST_DISTORTION  # not where there is no ground
        return own if bool(is_true.all()) else None

    def _true_areas(self, columns: FloatArray, rows: FloatArray) -> FloatArray:
        across, down = self._steps(columns, rows)
        areas: FloatArray = np.linalg.norm(np.cross(across, down), axis=-1)
        return areas

    def _steps(self, columns: FloatArray, rows: FloatArray) -> tuple[FloatArray, FloatArray]:
        """What a step of a pixel across and one down are, (..., 3) metres in geocentric coordinates."""
        ends = [
            self._geocentric(columns + sign * right, rows + sign * below)
            for right, below in ((STEP, 0.0), (0.0, STEP))
            for sign in (1, -1)
        ]
        return (ends[0] - ends[1]) / (2 * STEP), (ends[2] - ends[3]) / (2 * STEP)

    def _geocentric(self, columns: FloatArray, rows: FloatArray) -> FloatArray:
        """(..., 3) metres from the earth's centre; NaN where there is no ground. Poles and date line are no edges."""
        longitude, latitude = (np.radians(values) for values in self._to_degrees(columns, rows))
        # Snyder, Map Projections, 1987, 4-20: the radius of curvature across the meridian.
        radius = SEMI_MAJOR / np.sqrt(1 - ECCENTRICITY_2 * np.sin(latitude) ** 2)
        from_axis = radius * np.cos(latitude)
        above = radius * (1 - ECCENTRICITY_2) * np.sin(latitude)
        return np.stack([from_axis * np.cos(longitude), from_axis * np.sin(longitude), above], axis=-1)

    def _to_degrees(self, columns: FloatArray, rows: FloatArray) -> tuple[FloatArray, FloatArray]:
        x = self.transform.a * columns + self.transform.b * rows + self.transform.c
        y = self.transform.d * columns + self.transform.e * rows + self.transform.f
        longitudes, latitudes = _longitudes_latitudes(self.crs, x.ravel(), y.ravel())
        if self.crs.is_geographic:  # PROJ takes more than a right angle, and goes on behind the pole
            latitudes = np.where(np.abs(y.ravel()) > RIGHT_ANGLE, np.nan, latitudes)
        return longitudes.reshape(x.shape), latitudes.reshape(x.shape)


def _longitudes_latitudes(crs: "CRS", x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Degrees; NaN where a place is none on the ground."""
    from rasterio.warp import transform

    from landuse.mapping.scene import gdal_errors

    try:
        places = np.array(transform(crs, "EPSG:4326", x, y)[:2])
    except gdal_errors():  # one of them is enough for GDAL to give up on all
        if len(x) == 1:
            return np.full(1, np.nan), np.full(1, np.nan)
        pairs = [_longitudes_latitudes(crs, x[i : i + 1], y[i : i + 1]) for i in range(len(x))]
        places = np.array([np.concatenate(values) for values in zip(*pairs, strict=True)])
    places[~np.isfinite(places)] = np.nan
    return places[0], places[1]

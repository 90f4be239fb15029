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
        sizes = float(np.hypot(*across)[0]), float(np.hypot(*down)[0])
        if not all(math.isfinite(size) and size > 0 for size in sizes):
            raise ValueError("it has no place on the ground in its coordinate system")
        return sizes

    def pixel_areas(self, columns: FloatArray, rows: FloatArray) -> FloatArray:
        """Square metres of the pixels at these places of the scene, shape as given."""
        if self._own_area is not None:
            return np.full(columns.shape, self._own_area)
        return self._true_areas(columns, rows)

    def block_area(self, rows: slice, columns: slice) -> float:
        """Square metres of a pixel of a block, which may be cut off by the scene's edge: of that in its middle."""
        middle = np.array([(columns.start + columns.stop) / 2]), np.array([(rows.start + rows.stop) / 2])
        return float(self.pixel_areas(*middle)[0])

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

    def corners(self) -> list[tuple[float, float]]:
        """Longitude and latitude of the scene's corners, from the upper left one clockwise."""
        columns, rows = (
            np.array(ends, float) for ends in ((0, self.width, self.width, 0), (0, 0, self.height, self.height))
        )
        longitudes, latitudes = self._to_degrees(columns, rows)
        return list(zip(longitudes.tolist(), latitudes.tolist(), strict=True))

    @cached_property
    def _own_area(self) -> float | None:
        if not self.crs.is_projected:
            return None
        own = abs(self.transform.determinant) * self.crs.linear_units_factor[1] ** 2
        true = float(self._true_areas(np.array([self.width / 2]), np.array([self.height / 2]))[0])
        return own if abs(own / true - 1) <= LARGEST_DISTORTION else None

    def _true_areas(self, columns: FloatArray, rows: FloatArray) -> FloatArray:
        (east_x, north_x), (east_y, north_y) = self._steps(columns, rows)
        return np.abs(east_x * north_y - north_x * east_y)

    def _steps(self, columns: FloatArray, rows: FloatArray) -> tuple[tuple[FloatArray, FloatArray], ...]:
        """Metres to the east and north of a step of a pixel across, and of one down."""
        steps = []
        for right, below in ((STEP, 0.0), (0.0, STEP)):
            before, after = (self._to_degrees(columns + sign * right, rows + sign * below) for sign in (-1, 1))
            latitude = np.radians((before[1] + after[1]) / 2)
            longitudes = (after[0] - before[0] + 180) % 360 - 180  # across the date line
            shrinking = 1 - ECCENTRICITY_2 * np.sin(latitude) ** 2
            # Radii of curvature along the parallel and the meridian (Snyder, Map Projections, 1987, 4-18 and 4-20)
            parallel, meridian = SEMI_MAJOR / np.sqrt(shrinking), SEMI_MAJOR * (1 - ECCENTRICITY_2) / shrinking**1.5
            scale = 1 / (2 * STEP)
            steps.append(
                (
                    np.radians(longitudes) * parallel * np.cos(latitude) * scale,
                    np.radians(after[1] - before[1]) * meridian * scale,
                )
            )
        return tuple(steps)

    def _to_degrees(self, columns: FloatArray, rows: FloatArray) -> tuple[FloatArray, FloatArray]:
        from rasterio._err import CPLE_BaseError
        from rasterio.warp import transform

        x = self.transform.a * columns + self.transform.b * rows + self.transform.c
        y = self.transform.d * columns + self.transform.e * rows + self.transform.f
        try:
            longitudes, latitudes = transform(self.crs, "EPSG:4326", x.ravel(), y.ravel())
        except CPLE_BaseError as error:
            raise ValueError(f"it has no place on the ground in its coordinate system ({error})") from error
        return np.array(longitudes).reshape(x.shape), np.array(latitudes).reshape(x.shape)

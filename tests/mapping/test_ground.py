"""What a pixel measures on the ground."""

import math

import numpy as np
import pytest
from affine import Affine
from rasterio.crs import CRS

from landuse.mapping.ground import Ground

DEGREE_M = 111_319.49  # along the equator


def ground(crs: str, transform: Affine, width: int = 1000, height: int = 1000) -> Ground:
    return Ground(CRS.from_user_input(crs), transform, width, height)


def area(place: Ground, row: int = 500) -> float:
    return place.block_area(slice(row - 1, row + 1), slice(499, 501))


def test_utm_counts_its_own_metres() -> None:
    place = ground("EPSG:32633", Affine(0.3, 0, 5e5, 0, -0.3, 5e6))
    assert place.pixel_size() == pytest.approx((0.3, 0.3), rel=1e-3)
    assert place.is_planar and area(place) == pytest.approx(0.09, rel=1e-12)


def test_a_rotated_grid() -> None:
    turned = Affine.translation(5e5, 5e6) @ Affine.rotation(37) @ Affine.scale(2, -3)
    place = ground("EPSG:32633", turned)
    assert place.pixel_size() == pytest.approx((2, 3), rel=1e-3)
    assert area(place) == pytest.approx(6)


def test_feet() -> None:
    place = ground("EPSG:2263", Affine(1, 0, 9e5, 0, -1, 2e5))  # New York, US survey feet
    assert place.pixel_size() == pytest.approx((0.3048, 0.3048), rel=1e-3)
    assert place.is_planar and area(place) == pytest.approx(0.3048006**2, rel=1e-6)


def test_degrees_shrink_with_the_latitude() -> None:
    place = ground("EPSG:4326", Affine(1e-4, 0, 10, 0, -1e-4, 60.05))
    across, down = place.pixel_size()
    # Bowring's series: at 60 degrees a degree has 55,800 m of longitude and 111,412 m of latitude.
    assert across == pytest.approx(5.58, rel=1e-3) and down == pytest.approx(11.141, rel=1e-3)
    assert not place.is_planar and area(place) == pytest.approx(across * down, rel=1e-3)
    assert area(place, 1) < area(place, 999)


def test_web_mercator_is_no_measure_of_metres() -> None:
    y = 6_378_137 * math.log(math.tan(math.pi / 4 + math.radians(60) / 2))
    place = ground("EPSG:3857", Affine(1, 0, 0, 0, -1, y + 500))
    assert place.pixel_size() == pytest.approx((0.5, 0.5), rel=5e-3)
    assert not place.is_planar and area(place) == pytest.approx(0.25, rel=1e-2)


def test_areas_of_a_whole_sphere_zone() -> None:
    """All of a strip from the equator to 10 degrees: the sum over blocks is the area on the ellipsoid."""
    place = ground("EPSG:4326", Affine(0.01, 0, 0, 0, -0.01, 10), 100, 1000)
    total = sum(place.block_area(slice(r, r + 10), slice(0, 100)) * 1000 for r in range(0, 1000, 10))
    eccentricity = math.sqrt(0.00669437999014)
    sine = math.sin(math.radians(10))
    zone = 6_356_752.3142**2 * math.radians(1) / 2 * (  # Snyder, Map Projections, 1987, 3-12
        sine / (1 - eccentricity**2 * sine**2)
        + math.log((1 + eccentricity * sine) / (1 - eccentricity * sine)) / (2 * eccentricity)
    )  # fmt: skip
    assert total == pytest.approx(zone, rel=1e-5)


def test_across_the_date_line() -> None:
    place = ground("EPSG:4326", Affine(1e-3, 0, 179.5, 0, -1e-3, 0.5))
    assert place.pixel_size()[0] == pytest.approx(DEGREE_M / 1000, rel=1e-3)


def test_no_place_on_the_ground() -> None:
    with pytest.raises(ValueError, match="no place"):
        ground("EPSG:32633", Affine(1e12, 0, 1e30, 0, -1e12, 1e30)).pixel_size()


def test_corners() -> None:
    corners = ground("EPSG:4326", Affine(0.001, 0, 10, 0, -0.001, 50), 1000, 500).corners()
    assert np.array(corners) == pytest.approx(np.array([(10, 50), (11, 50), (11, 49.5), (10, 49.5)]))

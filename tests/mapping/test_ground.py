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
    return float(place.pixel_areas(np.array([500.0]), np.array([float(row)]))[0])


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
    total = sum(float(place.pixel_areas(np.array([50.0]), np.array([r + 5.0]))[0]) * 1000 for r in range(0, 1000, 10))
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


def test_the_pole_is_no_edge() -> None:
    place = ground("EPSG:3031", Affine(100, 0, -50_000, 0, -100, 50_000))
    # True to scale at 71 degrees south; at the pole its scale is 0.9728 (Snyder, 1987, 21-35).
    assert place.pixel_size() == pytest.approx((102.8, 102.8), rel=1e-3)
    assert not place.is_planar and area(place) == pytest.approx(102.8**2, rel=2e-3)


def test_a_projection_that_is_true_in_the_middle_alone_is_not_planar() -> None:
    place = ground("EPSG:3857", Affine(4000, 0, -2_000_000, 0, -4000, 2_000_000))  # 18 degrees to either side
    assert area(place, 500) == pytest.approx(4000**2, rel=1e-2)
    assert not place.is_planar and area(place, 5) < 0.92 * area(place, 500)


def test_where_there_is_no_ground_there_is_no_area() -> None:
    """The earth from above, with space in the corners."""
    place = ground("+proj=ortho +lat_0=0 +lon_0=0", Affine(14_000, 0, -7_000_000, 0, -14_000, 7_000_000))
    areas = place.pixel_areas(np.array([5.0, 500.0]), np.array([5.0, 500.0]))
    assert areas[0] == 0 and areas[1] == pytest.approx(14_000**2, rel=1e-2)


def test_blocks_are_reckoned_by_their_middles() -> None:
    place = ground("EPSG:4326", Affine(1e-3, 0, 10, 0, -1e-3, 50), 600, 1200)
    areas = place.block_areas()
    assert areas.shape == (3, 2)
    assert areas[2, 1] == pytest.approx(float(place.pixel_areas(np.array([556.0]), np.array([1112.0]))[0]))

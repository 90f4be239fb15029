"""Polygons of a map: they are the raster, in another form."""

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.features import rasterize
from rasterio.warp import transform

from landuse.errors import UserError
from landuse.mapping import polygons, vectors
from landuse.mapping.ground import BLOCK, Ground
from landuse.mapping.polygons import write_polygons
from tests.mapping.maps import NAMES, facts_of, write_rasters

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
SRC = Path(__file__).parents[2] / "src"
NORTH_UP = (10, 0, 400_000, 0, -10, 5_000_000)
ROTATED = (8.3, 3.1, 400_000.7, 2.9, -7.7, 5_000_000.3)
DEGREES = (1e-4, 0, 12.3, 0, -1e-4, 60.1)


class Map:
    """Written polygons beside what they were made of."""

    def __init__(
        self,
        folder: Path,
        classes: NDArray[np.uint8],
        crs: str | None,
        affine: Sequence[float] | None,
        suffix: str = ".gpkg",
    ) -> None:
        self.classes = classes
        height, width = classes.shape
        self.confidence = np.random.default_rng(1).random(classes.shape, dtype=np.float32)
        self.confidence[classes == 255] = np.nan
        self.facts = facts_of(classes, crs, affine)
        self.ground = (
            Ground(CRS.from_user_input(crs), rasterio.Affine(*affine), width, height) if crs and affine else None
        )
        paths = write_rasters(folder, classes, self.confidence, self.facts)
        self.path = folder / f"landuse{suffix}"
        areas = None if self.ground is None else self.ground.block_areas()
        self.num = write_polygons(*paths, self.facts, areas, self.path)
        self.info, _, geometry, fields = pyogrio.raw.read(self.path)
        self.shapes = shapely.from_wkb(geometry)
        self.fields: dict[str, NDArray[Any]] = dict(zip(self.info["fields"], fields, strict=True))

    def in_pixels(self) -> list[shapely.Geometry]:
        """The polygons in columns and rows."""
        back = ~rasterio.Affine(*self.facts["scene"]["transform"] or (1, 0, 0, 0, -1, 0))
        a, b, c, d, e, f = tuple(back)[:6]
        affine = np.array([[a, b], [d, e]])
        return [shapely.transform(shape, lambda points: np.rint(points @ affine.T + (c, f))) for shape in self.shapes]


def speckled(seed: int = 0, size: int = 40) -> NDArray[np.uint8]:
    """Every pixel of a class of its own choice, so that regions touch themselves and each other in every way."""
    values = np.random.default_rng(seed).choice(np.array([0, 0, 0, 1, 1, 2, 254, 255], np.uint8), (size, size + 7))
    values[3:20, 5:30] = 0
    values[5:18, 7:28] = np.random.default_rng(seed + 1).choice(np.array([0, 1], np.uint8), (13, 21))
    return values


@pytest.mark.parametrize(
    ("crs", "affine"), [("EPSG:32633", NORTH_UP), ("EPSG:32633", ROTATED), ("EPSG:4326", DEGREES), (None, None)]
)
def test_polygons_are_the_raster(tmp_path: Path, crs: str | None, affine: Sequence[float] | None) -> None:
    made = Map(tmp_path, speckled(), crs, affine)
    assert made.num == len(made.shapes) > 100
    assert shapely.is_valid(made.shapes).all()
    assert set(shapely.get_type_id(made.shapes)) == {shapely.GeometryType.POLYGON}
    numbers = rasterize(
        zip(made.in_pixels(), range(1, made.num + 1), strict=True), out_shape=made.classes.shape, dtype="int32"
    )
    assert ((numbers > 0) == (made.classes != 255)).all()
    inside = numbers > 0
    assert (made.fields["value"][numbers[inside] - 1] == made.classes[inside]).all()
    assert (made.fields["pixels"] == np.bincount(numbers[inside])[1:]).all()
    mean = np.bincount(numbers[inside], made.confidence[inside])[1:] / made.fields["pixels"]
    assert made.fields["confidence"] == pytest.approx(mean, abs=1e-9)
    named = dict(enumerate(NAMES)) | {254: "unclassified"}
    assert [named[value] for value in made.fields["value"].tolist()] == made.fields["class"].tolist()
    determinant = abs(rasterio.Affine(*affine).determinant) if affine else 1
    assert shapely.area(made.shapes) == pytest.approx(made.fields["pixels"] * determinant, rel=1e-6)
    together = shapely.union_all(made.shapes)
    assert together.area == pytest.approx(inside.sum() * determinant, rel=1e-9)  # nothing lies on anything else
    assert not [
        path.name for path in tmp_path.iterdir() if path.name not in {"classes.tif", "confidence.tif", "landuse.gpkg"}
    ]


def test_a_region_that_touches_itself_is_mended_without_a_change_of_its_area(tmp_path: Path) -> None:
    ring = np.array([[0, 0, 0, 0], [0, 1, 0, 255], [0, 0, 1, 0], [0, 0, 0, 0]], np.uint8)
    made = Map(tmp_path, ring, "EPSG:32633", NORTH_UP)
    assert shapely.is_valid(made.shapes).all()
    assert sorted(made.fields["pixels"].tolist()) == [1, 1, 13]
    assert shapely.area(made.shapes).sum() == 15 * 100


def test_areas_on_the_ground_are_those_of_blocks(tmp_path: Path) -> None:
    classes = np.zeros((BLOCK + 40, 2 * BLOCK + 9), np.uint8)
    classes[100:530, 300:700] = 1
    classes[510:520, 500:520] = 2
    classes[:3, :3] = 255
    made = Map(tmp_path, classes, "EPSG:4326", (1e-3, 0, 12.3, 0, -1e-3, 60.1))
    assert made.ground is not None and not made.ground.is_planar
    expected = np.zeros(3)
    for row in range(0, classes.shape[0], BLOCK):
        for column in range(0, classes.shape[1], BLOCK):
            rows, columns = (
                slice(row, min(row + BLOCK, classes.shape[0])),
                slice(column, min(column + BLOCK, classes.shape[1])),
            )
            counts = np.bincount(classes[rows, columns].ravel(), minlength=256)[:3]
            area = made.ground.block_areas()[row // BLOCK, column // BLOCK]
            expected += counts * area / 10_000
    found = np.bincount(made.fields["value"], made.fields["area_ha"])
    assert found == pytest.approx(expected, rel=1e-9)
    assert made.fields["area_ha"].sum() != pytest.approx(expected.sum() * 1.001, rel=1e-4)


def test_a_planar_scene_has_hectares_of_its_projection_and_its_coordinate_system(tmp_path: Path) -> None:
    made = Map(tmp_path, speckled(3), "EPSG:32633", NORTH_UP)
    assert made.fields["area_ha"] == pytest.approx(made.fields["pixels"] / 100, rel=1e-12)
    assert CRS.from_user_input(made.info["crs"]) == CRS.from_epsg(32633)
    assert [name for name, *_ in pyogrio.list_layers(made.path)] == ["landuse"]


def test_geojson_is_in_longitude_and_latitude_with_outer_rings_counterclockwise(tmp_path: Path) -> None:
    classes = np.zeros((30, 900), np.uint8)
    classes[10:20, 100:800], classes[12:14, 300:310], classes[:2, :2] = 1, 2, 255
    made = Map(tmp_path, classes, "EPSG:32633", NORTH_UP, ".geojson")
    content = json.loads(made.path.read_text(encoding="utf-8"))
    assert content["type"] == "FeatureCollection" and "crs" not in content
    shapes = np.array([shapely.geometry.shape(feature["geometry"]) for feature in content["features"]])
    assert shapely.is_valid(shapes).all() and len(shapes) == made.num == 3
    assert all(shapely.is_ccw(shape.exterior) and not any(map(shapely.is_ccw, shape.interiors)) for shape in shapes)
    ((west, north),) = zip(*transform("EPSG:32633", "EPSG:4326", [400_000 + 1000], [5_000_000 - 100]), strict=True)
    river = next(feature for feature in content["features"] if feature["properties"]["class"] == "river")
    assert [west, north] == pytest.approx(
        min(river["geometry"]["coordinates"][0], key=lambda point: np.hypot(point[0] - west, point[1] - north)),
        abs=1e-8,
    )
    assert river["properties"]["pixels"] == 7000 - 20
    # Sides of 700 pixels are bent in degrees; both neighbours bend at the same places, so that nothing gapes.
    assert shapely.union_all(shapes).area == pytest.approx(shapely.area(shapes).sum(), rel=1e-9)
    assert len(shapely.union_all(shapes).interiors) == 0
    assert len(river["geometry"]["coordinates"][0]) == 5 + 2 * 3


def test_a_scene_across_the_date_line_is_divided_there(tmp_path: Path) -> None:
    made = Map(tmp_path, np.zeros((20, 40), np.uint8), "EPSG:3832", (100, 0, 3_337_000, 0, -100, 2_000_000), ".geojson")
    (shape,) = made.shapes
    assert shapely.is_valid(shape) and shape.bounds[2] - shape.bounds[0] == 360
    assert shape.area < 0.01


def test_what_lies_beyond_the_globe_is_no_geojson(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"write the polygons as a GeoPackage"):
        Map(
            tmp_path,
            np.zeros((14, 14), np.uint8),
            "+proj=ortho +lat_0=45 +lon_0=10",
            (1e6, 0, -7e6, 0, -1e6, 7e6),
            ".geojson",
        )


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson"])
def test_without_a_place_on_the_ground_polygons_lie_where_qgis_shows_the_image(tmp_path: Path, suffix: str) -> None:
    classes = np.zeros((4, 6), np.uint8)
    classes[1:3, 2:5] = 1
    made = Map(tmp_path, classes, None, None, suffix)
    (index,) = np.flatnonzero(made.fields["value"] == 1)
    assert shapely.bounds(made.shapes[index]).tolist() == [2, -3, 5, -1]
    assert np.isnan(made.fields["area_ha"].astype(float)).all()
    if suffix == ".geojson":
        content = json.loads(made.path.read_text(encoding="utf-8"))
        assert content["description"] == vectors.PIXEL_NOTE
        assert content["features"][0]["properties"]["area_ha"] is None
    else:
        assert made.info["crs"] is None or "Undefined" in made.info["crs"]
        with contextlib.closing(sqlite3.connect(made.path)) as database:
            assert database.execute("SELECT description FROM gpkg_contents").fetchall() == [(vectors.PIXEL_NOTE,)]


def test_coordinates_of_an_unknown_system_are_kept(tmp_path: Path) -> None:
    made = Map(tmp_path, np.zeros((3, 3), np.uint8), None, NORTH_UP, ".geojson")
    assert made.shapes[0].bounds == (400_000, 4_999_970, 400_030, 5_000_000)
    assert json.loads(made.path.read_text(encoding="utf-8"))["description"] == vectors.UNKNOWN_NOTE


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson"])
def test_batches_are_put_together(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polygons, "BATCH", 7)
    monkeypatch.setattr(vectors, "BATCH", 120)
    monkeypatch.setattr(polygons, "ROWS_AT_ONCE", 5)
    made = Map(tmp_path, speckled(5), "EPSG:32633", NORTH_UP, suffix)
    assert len(made.shapes) == made.num > 250
    assert made.fields["pixels"].sum() == (made.classes != 255).sum()
    known = made.classes != 255
    assert (made.fields["confidence"] * made.fields["pixels"]).sum() == pytest.approx(
        made.confidence[known].sum(), rel=1e-5
    )


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson"])
def test_a_map_without_any_data_has_no_polygon(tmp_path: Path, suffix: str) -> None:
    assert Map(tmp_path, np.full((5, 5), 255, np.uint8), "EPSG:32633", NORTH_UP, suffix).num == 0


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"end in .gpkg or .geojson"):
        write_polygons(tmp_path, tmp_path, {}, None, tmp_path / "landuse.shp")


FULL = """
import json, resource, signal, sys
from pathlib import Path
from landuse.mapping.polygons import write_polygons
folder = Path(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))
try:
    write_polygons(folder / "classes.tif", folder / "confidence.tif", json.loads((folder / "facts.json").read_text()),
                   None, folder / sys.argv[2])
except OSError as error:
    print("OSError", error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="files are limited by POSIX means")
@pytest.mark.parametrize("suffix", [".gpkg", ".geojson"])
def test_a_full_disk_is_an_error_and_leaves_what_was_there(tmp_path: Path, suffix: str) -> None:
    classes = np.random.default_rng(0).integers(0, 3, (60, 60)).astype(np.uint8)
    facts = facts_of(classes)
    write_rasters(tmp_path, classes, np.ones(classes.shape, np.float32), facts)
    (tmp_path / "facts.json").write_text(json.dumps(facts))
    (tmp_path / f"old{suffix}").write_text("earlier")
    done = subprocess.run(
        [sys.executable, "-B", "-c", FULL, str(tmp_path), f"old{suffix}"], capture_output=True, text=True, timeout=60,
        check=False, env=os.environ | {"PYTHONPATH": str(SRC)},
    )  # fmt: skip
    assert done.stdout.startswith("OSError"), done.stderr
    assert (tmp_path / f"old{suffix}").read_text() == "earlier"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["classes.tif", "confidence.tif", "facts.json", f"old{suffix}"]
    )

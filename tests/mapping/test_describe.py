"""What a scene is, and how it is read."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.control import GroundControlPoint

from landuse.errors import UserError
from landuse.mapping.describe import Asked, describe
from landuse.mapping.scene import Pixels, Scene
from tests.mapping.scenes import UTM, write

DRAWS = np.random.default_rng(0)
PICTURE = DRAWS.integers(0, 256, (40, 50, 3), np.uint8)


def read(scene: Scene) -> Pixels:
    with scene.opened() as reader:
        return reader.read(slice(0, scene.height), slice(0, scene.width))


@pytest.mark.parametrize("suffix", [".tif", ".png", ".jp2"])
def test_formats(tmp_path: Path, suffix: str) -> None:
    options = {"QUALITY": "100", "REVERSIBLE": "YES"} if suffix == ".jp2" else {}
    scene = describe(str(write(tmp_path / f"scene{suffix}", PICTURE, **options)), Asked())
    assert (scene.width, scene.height, scene.bands, scene.range_rule) == (50, 40, (1, 2, 3), "8-bit")
    colours, valid = read(scene)
    assert (colours == PICTURE).all() and valid is None


def test_a_virtual_raster(tmp_path: Path) -> None:
    write(tmp_path / "scene.tif", PICTURE)
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{band}"><SimpleSource><SourceFilename relativeToVRT="1">scene.tif'
        f"</SourceFilename><SourceBand>{band}</SourceBand></SimpleSource></VRTRasterBand>"
        for band in (1, 2, 3)
    )
    path = tmp_path / "scene.vrt"
    path.write_text(f'<VRTDataset rasterXSize="50" rasterYSize="40">{bands}</VRTDataset>')
    assert (read(describe(str(path), Asked())).colours == PICTURE).all()


def test_a_part_is_read_alone(tmp_path: Path) -> None:
    scene = describe(str(write(tmp_path / "scene.tif", PICTURE)), Asked())
    with scene.opened() as reader:
        assert (reader.read(slice(3, 20), slice(7, 30)).colours == PICTURE[3:20, 7:30]).all()


def test_no_georeference(tmp_path: Path) -> None:
    scene = describe(str(write(tmp_path / "scene.png", PICTURE, transform=None, crs=None)), Asked())
    assert scene.crs is None and scene.transform is None and scene.ground is None


def test_bands_by_colour(tmp_path: Path) -> None:
    """As PlanetScope has them: blue, green, red, near infrared."""
    bands = DRAWS.integers(0, 256, (4, 8, 8), np.uint8)
    path = write(tmp_path / "scene.tif", bands)
    with rasterio.open(path, "r+") as file:
        kinds = rasterio.enums.ColorInterp
        file.colorinterp = [kinds.blue, kinds.green, kinds.red, kinds.undefined]
    scene = describe(str(path), Asked())
    assert scene.bands == (3, 2, 1) and (read(scene).colours == np.moveaxis(bands[[2, 1, 0]], 0, 2)).all()


@pytest.mark.parametrize("asked", [["4", "3", "2"], ["B04", "b03", "B02"]])
def test_bands_by_number_and_name(tmp_path: Path, asked: list[str]) -> None:
    path = write(tmp_path / "scene.tif", DRAWS.integers(0, 256, (5, 8, 8), np.uint8), photometric="MINISBLACK")
    with rasterio.open(path, "r+") as file:
        file.descriptions = ["B01", "B02", "B03", "B04", "B08"]
    assert describe(str(path), Asked(bands=asked)).bands == (4, 3, 2)
    with pytest.raises(UserError, match=r"5 bands \(1 B01, 2 B02.*say which.*map.bands="):
        describe(str(path), Asked())
    with pytest.raises(UserError, match="no band B99; it has 5: 1 B01"):
        describe(str(path), Asked(bands=["B99", "B03", "B02"]))
    with pytest.raises(UserError, match="name three bands"):
        describe(str(path), Asked(bands=["1", "2"]))


def test_grey(tmp_path: Path) -> None:
    grey = DRAWS.integers(0, 256, (1, 8, 8), np.uint8)
    scene = describe(str(write(tmp_path / "scene.tif", grey)), Asked())
    assert scene.bands == (1,) and (read(scene).colours == grey[0][..., None]).all()


def test_a_palette(tmp_path: Path) -> None:
    path = write(tmp_path / "scene.tif", np.array([[[0, 1], [2, 1]]], np.uint8), photometric="PALETTE")
    with rasterio.open(path, "r+") as file:
        file.write_colormap(1, {0: (255, 0, 0, 255), 1: (0, 255, 0, 255), 2: (0, 0, 255, 255)})
    assert read(describe(str(path), Asked())).colours.tolist() == [
        [[255, 0, 0], [0, 255, 0]],
        [[0, 0, 255], [0, 255, 0]],
    ]


def test_nodata(tmp_path: Path) -> None:
    pixels = PICTURE.copy()
    pixels[:, :10] = 0
    pixels[20, 20] = (0, 7, 9)  # dark in one band alone
    valid = read(describe(str(write(tmp_path / "scene.tif", pixels, nodata=0)), Asked())).valid
    assert valid is not None and not valid[:, :10].any() and valid[:, 10:].all()


def test_alpha(tmp_path: Path) -> None:
    bands = np.concatenate([np.moveaxis(PICTURE, 2, 0), np.full((1, 40, 50), 255, np.uint8)])
    bands[3, 5:10] = 0
    scene = describe(str(write(tmp_path / "scene.png", bands)), Asked())
    valid = read(scene).valid
    assert scene.bands == (1, 2, 3) and valid is not None and valid.sum() == 40 * 50 - 5 * 50


def test_range_of_deep_values(tmp_path: Path) -> None:
    values = DRAWS.integers(100, 3000, (3, 64, 64)).astype(np.uint16)
    values[:, 0, 0] = 65535
    path = str(write(tmp_path / "scene.tif", values, photometric="MINISBLACK"))
    scene = describe(path, Asked())
    low, high = np.percentile(values, (2, 98))
    assert scene.value_range == pytest.approx((low, high)) and "percentiles 2 and 98" in scene.range_rule
    expected = np.clip((values - low) / (high - low) * 255 + 0.5, 0, 255).astype(np.uint8)
    assert (read(scene).colours == np.moveaxis(expected, 0, 2)).all()
    assert describe(path, Asked(model_range=[0, 4000])).value_range == (0, 4000)
    assert describe(path, Asked(model_range=[0, 4000], value_range=[1, 2])).value_range == (1, 2)


@pytest.mark.parametrize("dtype", ["int16", "uint16", "float32"])
def test_kinds_of_numbers(tmp_path: Path, dtype: str) -> None:
    values = np.linspace(-500, 4000, 3 * 64, dtype=np.float64).reshape(3, 8, 8).clip(0 if dtype == "uint16" else -500)
    path = write(tmp_path / "scene.tif", values.astype(dtype), photometric="MINISBLACK")
    colours = read(describe(str(path), Asked(value_range=[0, 3000]))).colours
    expected = np.clip(values.astype(dtype).astype(float) / 3000 * 255 + 0.5, 0, 255).astype(np.uint8)
    assert (colours == np.moveaxis(expected, 0, 2)).all()


def test_numbers_that_are_none_are_no_data(tmp_path: Path) -> None:
    values = np.ones((3, 8, 8), np.float32)
    values[:, 2, :] = np.nan
    valid = read(describe(str(write(tmp_path / "scene.tif", values, photometric="MINISBLACK")), Asked())).valid
    assert valid is not None and valid.sum() == 56


def test_a_coordinate_system_is_given(tmp_path: Path) -> None:
    path = str(write(tmp_path / "scene.tif", PICTURE, crs=None))
    assert describe(path, Asked()).ground is None and describe(path, Asked()).transform == tuple(UTM)[:6]
    assert describe(path, Asked(crs="EPSG:32633")).ground.pixel_size()[0] == pytest.approx(2, rel=1e-3)
    with pytest.raises(UserError, match="PROJ knows no such"):
        describe(path, Asked(crs="EPSG:0"))
    with pytest.raises(UserError, match="is in EPSG:32633: leave"):
        describe(str(write(tmp_path / "other.tif", PICTURE)), Asked(crs="EPSG:4326"))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_what_lies_beside_a_file_is_read(tmp_path: Path, suffix: str) -> None:
    """A world file, and GDAL's own of the coordinate system and of a mask."""
    path = write(tmp_path / f"scene{suffix}", PICTURE, transform=None, crs=None)
    (tmp_path / f"scene.{'pgw' if suffix == '.png' else 'tfw'}").write_text("2\n0\n0\n-2\n500001\n4999999\n")
    wkt = rasterio.crs.CRS.from_epsg(32633).to_wkt().replace('"', "&quot;")
    (tmp_path / f"scene{suffix}.aux.xml").write_text(f"<PAMDataset><SRS>{wkt}</SRS></PAMDataset>")
    mask = np.full((40, 50), 255, np.uint8)
    mask[:7] = 0
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as file:
        file.write_mask(mask)
    assert Path(f"{path}.msk").is_file()
    scene = describe(str(path), Asked())
    assert scene.transform == tuple(UTM)[:6] and scene.crs == rasterio.crs.CRS.from_epsg(32633)
    valid = read(scene).valid
    assert valid is not None and not valid[:7].any() and valid[7:].all()


def test_pixels_without_an_extent(tmp_path: Path) -> None:
    path = write(tmp_path / "scene.tif", PICTURE, transform=Affine(1, 1, 0, 1, 1, 0))
    with pytest.raises(UserError, match="without an extent"):
        describe(str(path), Asked())


def test_a_system_without_a_place_on_the_earth(tmp_path: Path) -> None:
    local = 'LOCAL_CS["site",UNIT["metre",1],AXIS["x",EAST],AXIS["y",NORTH]]'
    scene = describe(str(write(tmp_path / "scene.tif", PICTURE, crs=local)), Asked())
    assert scene.crs is not None and scene.ground is None


def test_control_points_alone(tmp_path: Path) -> None:
    points = [GroundControlPoint(row, column, column, -row) for row in (0, 39) for column in (0, 49)]
    path = write(tmp_path / "scene.tif", PICTURE, transform=None, crs=None)
    with rasterio.open(path, "r+") as file:
        file.gcps = (points, rasterio.crs.CRS.from_epsg(4326))
    with pytest.raises(UserError, match="control points.*gdalwarp"):
        describe(str(path), Asked())


def test_complex_numbers(tmp_path: Path) -> None:
    path = write(tmp_path / "scene.tif", np.ones((1, 8, 8), np.complex64))
    with pytest.raises(UserError, match="complex64: convert"):
        describe(str(path), Asked())


def test_deep_values_without_any_data(tmp_path: Path) -> None:
    path = write(tmp_path / "scene.tif", np.zeros((3, 8, 8), np.uint16), nodata=0, photometric="MINISBLACK")
    with pytest.raises(UserError, match="holds no data"):
        describe(str(path), Asked())


@pytest.mark.parametrize("content", [b"", b"no image", b"II*\0" + b"\xff" * 100])
def test_what_is_no_image(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "scene.tif").write_bytes(content)
    with pytest.raises(UserError, match="cannot be read"):
        describe(str(tmp_path / "scene.tif"), Asked())


def test_a_file_that_is_cut_short(tmp_path: Path) -> None:
    noise = DRAWS.integers(0, 256, (600, 600, 3), np.uint8)
    path = write(tmp_path / "scene.tif", noise, tiled=True, blockxsize=256, blockysize=256)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    scene = describe(str(path), Asked())
    with scene.opened() as reader:
        reader.read(slice(0, 10), slice(0, 10))
        with pytest.raises(UserError, match="cannot be read at row 590, column 590"):
            reader.read(slice(590, 600), slice(590, 600))


def test_turned_and_mirrored_grids_keep_their_transform(tmp_path: Path) -> None:
    for transform in (
        Affine.translation(5e5, 5e6) @ Affine.rotation(30) @ Affine.scale(2, -2),
        Affine(2, 0, 5e5, 0, 2, 5e6),
    ):
        scene = describe(str(write(tmp_path / "scene.tif", PICTURE, transform=transform)), Asked())
        assert scene.transform == pytest.approx(tuple(transform)[:6])

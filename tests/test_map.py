"""The command map: from a scene to its map, whole, in parts, interrupted, and of what cannot be mapped."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyogrio
import pytest
import rasterio
from affine import Affine
from filelock import FileLock
from rio_cogeo.cogeo import cog_validate

from tests.conftest import Run
from tests.mapping.scenes import CLASSES, TILE, UTM, colours, truth, write
from tests.serving.tiny_model import write_exported

REGIONS = [[CLASSES[(3 * row + column) % 7 % 3] for column in range(9)] for row in range(6)]
OUTPUTS = (
    "classes.tif",
    "confidence.tif",
    "polygons.gpkg",
    "areas.csv",
    "map.png",
    "map.html",
    "map.json",
    "classes.qml",
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Trained, so it says, with images of 16 pixels of 2 m."""
    return f"run={write_exported(tmp_path_factory.mktemp('model'), gsd=2.0, tile_size=TILE)}"


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return write(tmp_path / "scene.tif", colours(REGIONS))


def raster(path: Path) -> np.ndarray:
    with rasterio.open(path) as file:
        return file.read(1)


def table(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "areas.csv").open(newline="", encoding="utf-8") as file:
        return {row["class"]: row for row in csv.DictReader(file)}


def test_a_map(command: Run, model: str, scene: Path) -> None:
    done = command("map", model, f"input={scene}", "output=map", "map.stride=1")
    assert done.status == 0, done.err
    folder = Path("map")
    assert {*OUTPUTS} <= {path.name for path in folder.iterdir()}
    assert (raster(folder / "classes.tif") == truth(REGIONS)).all()
    assert (raster(folder / "confidence.tif") > 0.95).all()
    counts = np.bincount(truth(REGIONS).ravel())
    rows = table(folder)
    assert [rows[name]["pixels"] for name in CLASSES] == [str(count) for count in counts]
    assert float(rows["field"]["counted_ha"]) == pytest.approx(counts[0] * 4 / 10_000)
    assert "tiles       54 of 16 x 16 pixels, a stride of 16 x 16" in done.err
    assert "not corrected" in done.err and rows["field"]["corrected_ha"] == ""


def test_rasters_lie_on_the_scene_s_grid(command: Run, model: str, tmp_path: Path) -> None:
    turned = Affine.translation(5e5, 5e6) @ Affine.rotation(30) @ Affine.scale(2, -2)
    for name, transform in (("straight", UTM), ("turned", turned)):
        scene = write(tmp_path / f"{name}.tif", colours(REGIONS), transform=transform)
        assert command("map", model, f"input={scene}", f"output={name}").status == 0
        for file in ("classes.tif", "confidence.tif"):
            is_valid, errors, warnings = cog_validate(f"{name}/{file}", strict=True)
            assert is_valid, (errors, warnings)
            with rasterio.open(f"{name}/{file}") as map_, rasterio.open(scene) as source:
                assert map_.crs == source.crs and map_.transform == source.transform and map_.shape == source.shape


def test_names_and_colours_are_embedded(command: Run, model: str, scene: Path) -> None:
    assert command("map", model, f"input={scene}", "output=map", 'map.colours={water: "#3366cc"}').status == 0
    with rasterio.open("map/classes.tif") as file:
        assert [file.tags(1)[f"CLASS_{i}"] for i in range(3)] == list(CLASSES)
        assert file.colormap(1)[2] == (0x33, 0x66, 0xCC, 255) and file.nodata == 255
    assert "<Category>field</Category>" in Path("map/classes.tif.aux.xml").read_text()


def test_nodata_stays_nodata(command: Run, model: str, tmp_path: Path) -> None:
    pixels = colours(REGIONS)
    is_hole = np.random.default_rng(0).random(pixels.shape[:2]) < 0.2
    is_hole[:, :40] = True
    pixels[is_hole] = 0
    scene = write(tmp_path / "scene.tif", pixels, nodata=0)
    assert command("map", model, f"input={scene}", "output=map", "map.stride=1").status == 0
    classes, confidence = raster(Path("map/classes.tif")), raster(Path("map/confidence.tif"))
    assert ((classes == 255) == is_hole).all() and (np.isnan(confidence) == is_hole).all()
    assert (classes[~is_hole] == truth(REGIONS)[~is_hole]).all()
    assert sum(int(row["pixels"]) for row in table(Path("map")).values()) == (~is_hole).sum()


def test_what_is_not_sure_is_unclassified(command: Run, model: str, tmp_path: Path) -> None:
    pixels = colours(REGIONS)
    pixels[:TILE, :TILE] = (110, 120, 95)  # about as far from each class
    scene = write(tmp_path / "scene.tif", pixels)
    asked = ["map", model, f"input={scene}", "output=map", "map.stride=1"]
    assert command(*asked, "map.min_confidence=0.8").status == 0
    classes = raster(Path("map/classes.tif"))
    assert (classes[:TILE, :TILE] == 254).all() and (classes == 254).sum() == TILE**2
    assert table(Path("map"))["unclassified"]["pixels"] == "256"
    done = command(*asked)  # drawn anew, of the same answers
    assert done.status == 0 and "classified" not in done.err.replace("unclassified", "")
    assert not (raster(Path("map/classes.tif")) == 254).any()


def test_a_scene_of_another_resolution(command: Run, model: str, tmp_path: Path) -> None:
    """Three pixels of 2/3 m where the model's images have one of 2 m: a tile is as many metres."""
    scene = write(tmp_path / "scene.tif", colours(REGIONS, 3 * TILE), transform=UTM @ Affine.scale(1 / 3))
    done = command("map", model, f"input={scene}", "output=map", "map.stride=1")
    assert "of 48 x 48 pixels" in done.err and "3.0 times finer" in done.err
    assert (raster(Path("map/classes.tif")) == truth(REGIONS, 3 * TILE)).all()


def test_degrees(command: Run, model: str, tmp_path: Path) -> None:
    """At 60 degrees a pixel of equal degrees is half as wide as high."""
    size = 2 / 111_412
    scene = write(tmp_path / "scene.tif", colours(REGIONS), Affine(size, 0, 10, 0, -size, 60), "EPSG:4326")
    done = command("map", model, f"input={scene}", "output=map")
    assert "of 32 x 16 pixels" in done.err
    total = sum(float(row["counted_ha"]) for row in table(Path("map")).values())
    assert total == pytest.approx(9 * 6 * 16 * 16 * 2 * 1.0017 / 1e4, rel=2e-3)


def test_no_georeference(command: Run, model: str, tmp_path: Path) -> None:
    scene = write(tmp_path / "scene.png", colours(REGIONS), transform=None, crs=None)
    done = command("map", model, f"input={scene}", "output=map", "map.stride=1")
    assert done.status == 0, done.err
    assert "coordinates are pixels" in done.err and "what a pixel of the scene measures" in done.err
    assert table(Path("map"))["field"]["counted_ha"] == ""
    assert (raster(Path("map/classes.tif")) == truth(REGIONS)).all()
    assert command("map", model, f"input={scene}", "output=metres", "map.gsd=2").status == 0
    hectares = float(table(Path("metres"))["field"]["counted_ha"])
    _, _, _, (names, areas) = pyogrio.raw.read("metres/polygons.gpkg", columns=["class", "area_ha"])
    assert hectares > 0 and areas[names == "field"].sum() == pytest.approx(hectares)


def test_the_areas_are_corrected(command: Run, tmp_path: Path, scene: Path) -> None:
    run = tmp_path / "run"
    model = f"run={write_exported(run / 'export' / 'fp32', gsd=2.0, tile_size=TILE)}"
    confusion = [[18, 2, 0], [0, 20, 0], [1, 0, 19]]
    evaluation = {
        "classes": list(CLASSES),
        "confusion_matrix": confusion,
        "model_fingerprint": "0" * 64,
        "split": "test",
    }
    (run / "evaluation.json").write_text(json.dumps(evaluation))
    assert command("map", model, f"input={scene}", "output=map", "map.stride=1").status == 0
    rows = table(Path("map"))
    for name in CLASSES:
        low, best, high = (float(rows[name][key]) for key in ("low_ha", "corrected_ha", "high_ha"))
        assert low <= best <= high
    total = sum(float(rows[name]["corrected_ha"]) for name in CLASSES)
    assert total == pytest.approx(sum(float(rows[name]["counted_ha"]) for name in CLASSES))
    assert float(rows["field"]["corrected_ha"]) > float(rows["field"]["counted_ha"])  # a tenth of it is taken for roofs
    other = tmp_path / "other.json"
    other.write_text(json.dumps(evaluation | {"model_fingerprint": "1" * 64}))
    done = command("map", model, f"input={scene}", "output=map", "map.stride=1", f"map.evaluation={other}")
    assert done.status == 2 and "other weights" in done.err


def outputs(folder: Path) -> dict[str, object]:
    """What is the same however a map was made."""
    return {
        "classes": (folder / "classes.tif").read_bytes(),
        "confidence": (folder / "confidence.tif").read_bytes(),
        "areas": (folder / "areas.csv").read_bytes(),
        "page": (folder / "map.html").stat().st_size,
    }


def test_shards_are_joined_to_what_one_process_makes(command: Run, model: str, tmp_path: Path) -> None:
    scene = write(tmp_path / "scene.tif", colours([row * 3 for row in REGIONS] * 4))
    asked = [model, f"input={scene}", "map.stride=0.3"]
    assert command("map", *asked, "output=whole").status == 0
    for number in (2, 1, 3):
        done = command("map", *asked, "output=parts", f"shard={number}/3")
        assert done.status == 0 and not Path("parts/classes.tif").exists()
    done = command("map", "merge", "output=parts")  # it knows the rest
    assert done.status == 0, done.err
    assert outputs(Path("parts")) == outputs(Path("whole"))


def test_shards_are_the_same_beside_nodata(command: Run, model: str, tmp_path: Path) -> None:
    """What is read with a chunk differs from shard to shard, and must not matter."""
    draws = np.random.default_rng(0)
    pixels = draws.integers(1, 255, (400, 900, 3), np.uint8)
    pixels[200:205, 150:170] = 0
    place = UTM @ Affine.scale(0.5)  # tiles are resized
    asked = [model, f"input={write(tmp_path / 'scene.tif', pixels, transform=place, nodata=0)}"]
    assert command("map", *asked, "output=whole").status == 0
    for number in (1, 2, 3):
        assert command("map", *asked, "output=parts", f"shard={number}/3").status == 0
    assert command("map", "merge", "output=parts").status == 0
    assert outputs(Path("parts")) == outputs(Path("whole"))


def test_shards_by_hydra_s_multirun(command: Run, model: str, scene: Path) -> None:
    done = command("map", "--multirun", model, f"input={scene}", "output=map", "shard=1/2,2/2")
    assert done.status == 0, done.err
    assert command("map", "merge", "output=map").status == 0
    assert Path("map/map.html").is_file()


def test_a_folder_of_scenes(command: Run, model: str, tmp_path: Path) -> None:
    place = tmp_path / "scenes"
    (place / "north").mkdir(parents=True)
    write(place / "a.tif", colours(REGIONS))
    write(place / "a.png", colours(REGIONS[:2]))
    write(place / "north" / "b.tif", colours(REGIONS[:3]))
    (place / "broken.tif").write_bytes(b"II*\0")
    assert command("map", model, f"input={place / 'a.tif'}", f"output={place}/earlier").status == 0
    for _ in range(2):  # maps inside the folder are no scenes
        done = command("map", model, f"input={place}", f"output={place}/maps")
        assert done.status == 1 and "1 of 4 scenes could not be mapped" in done.err
    found = {str(path.parent.relative_to(place / "maps")) for path in (place / "maps").rglob("classes.tif")}
    assert found == {"a.tif", "a.png", "north/b"}


def test_what_is_there_is_not_overwritten(command: Run, model: str, scene: Path, tmp_path: Path) -> None:
    asked = ["map", model, f"input={scene}", "output=map"]
    assert command(*asked).status == 0
    done = command(*asked, "map.stride=1")
    assert done.status == 2 and "holds a map of another map.stride (0.5 then, 1.0 now)" in done.err
    Path("own").mkdir()
    Path("own/classes.tif").write_bytes(b"mine")
    done = command("map", model, f"input={scene}", "output=own")
    assert done.status == 2 and "own/classes.tif is there" in done.err
    scene.write_bytes(write(tmp_path / "other.tif", colours(REGIONS[::-1])).read_bytes())
    done = command(*asked)
    assert done.status == 2 and "another scene" in done.err


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["output=map"], "input= is missing"),
        (["input=scene.tif"], "output= is missing"),
        (["input=nothing.tif", "output=map"], "input=nothing.tif: no such file"),
        (["input=scene.tif", "output=map", "shard=0/2"], "shard=0/2: give the i-th of n parts as i/n, from 1/n"),
        (["input=scene.tif", "output=map", "shard=1/2", "merge"], "leave one of them out"),
        (["merge", "output=map"], "run the shards first"),
        (["input=scene.tif", "output=map", "map.stride=0"], "map.stride=0"),
        (["input=scene.tif", "output=map", "map.stride=1.4"], "or whole pixels"),
        (["input=scene.tif", "output=map", "map.stride=17"], "larger than a tile, which has 16 pixels"),
        (["input=scene.tif", "output=map", "map.min_confidence=2"], "between 0 and 1"),
        (["input=scene.tif", "output=map", "map.bands=[4,3,2]"], "has no band 4; it has 3: 1 red, 2 green, 3 blue"),
        (["input=scene.tif", "output=map", "map.gsd=3"], "measures 2.001 x 2.001 m: leave map.gsd out"),
        (["input=scene.tif", "output=map", "map.evaluation=none.json"], "map.evaluation=none.json: no such file"),
        (["input=scene.tif", "output=scene.tif"], "output=scene.tif cannot be made"),
        (["input=scene.tif", "output=map", "map.tile_m=1"], "A tile of 1 m would be 0 x 0 pixels"),
        (["input=scene.tif", "output=map", "map.gsd=-1"], "map.gsd=-1"),
        (["input=scene.tif", "output=map", "map.colours={lake: red}"], "lake"),
        (["input=scene.tif", "output=map", "map.polygons=shp"], "map.polygons=shp"),
        (["input=scene.tif", "output=map", "trainer.device=cuda:99"], "trainer.device=cuda:99"),
    ],
)
def test_mistakes(command: Run, model: str, scene: Path, asked: list[str], said: str) -> None:
    done = command("map", model, *asked)
    assert done.status == 2 and said in done.err, done.err
    assert len(done.err.splitlines()[-1]) < 600


def test_a_damaged_record_of_a_map(command: Run, model: str, scene: Path) -> None:
    assert command("map", model, f"input={scene}", "output=map", "shard=1/1").status == 0
    record = Path("map/map-job.json")
    content = json.loads(record.read_text())
    for damage in ({"map": {"stride": "x"}}, {"scenes": {"../../elsewhere": "a"}}, {"run": 7}):
        record.write_text(json.dumps(content | damage))
        done = command("map", "merge", "output=map")
        assert done.status == 2 and "map-job.json is damaged" in done.err


def test_a_map_is_drawn_by_one_process_at_a_time(command: Run, model: str, scene: Path) -> None:
    asked = ["map", model, f"input={scene}", "output=map"]
    assert command(*asked).status == 0
    before = Path("map/classes.tif").read_bytes()
    with FileLock("map/parts/map.lock"):
        done = command(*asked)
    assert done.status == 2 and "Another process is drawing" in done.err
    assert Path("map/classes.tif").read_bytes() == before


def test_a_failed_first_run_does_not_hold_its_folder(command: Run, model: str, tmp_path: Path) -> None:
    scene = write(tmp_path / "four.tif", np.ones((4, 40, 40), np.uint8), photometric="MINISBLACK")
    asked = ["map", model, f"input={scene}", "output=map"]
    assert "say which these are" in command(*asked).err
    done = command(*asked, "map.bands=[3,2,1]")
    assert done.status == 0, done.err


def test_small_scenes_are_shared_out(command: Run, model: str, tmp_path: Path) -> None:
    (tmp_path / "scenes").mkdir()
    for name in "abcd":
        write(tmp_path / "scenes" / f"{name}.tif", colours([row[:4] for row in REGIONS[:2]]))
    done = [command("map", model, "input=scenes", "output=maps", f"shard={number}/2") for number in (1, 2)]
    assert [ended.err.count("classified") for ended in done] == [2, 2]
    assert command("map", "merge", "output=maps").status == 0


def test_what_a_killed_process_left_is_removed(command: Run, model: str, scene: Path) -> None:
    asked = ["map", model, f"input={scene}", "output=map"]
    assert command(*asked).status == 0
    for name in (".classes.tif.123.tmp", ".confidence.tif.123.tmp.ovr.tmp", ".classes.strips.tif"):
        Path("map", name).write_bytes(b"half")
    assert command(*asked).status == 0
    assert [path.name for path in Path("map").glob(".*") if "lock" not in path.name] == []


def test_maps_that_would_lie_in_each_other_are_refused(command: Run, model: str, tmp_path: Path) -> None:
    for name in ("b", "b/parts"):
        (tmp_path / "scenes" / name).parent.mkdir(parents=True, exist_ok=True)
        write(tmp_path / "scenes" / f"{name}.tif", colours(REGIONS))
    done = command("map", model, "input=scenes", "output=maps")
    assert done.status == 2 and "rename that scene" in done.err


def test_a_pipe_is_not_waited_for(command: Run, model: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "scene.tif")
    done = command("map", model, "input=scene.tif", "output=map")
    assert done.status == 2 and "no regular file" in done.err


def test_a_list_on_stdin_is_recorded(command: Run, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [str(write(tmp_path / f"{name}.tif", colours(REGIONS))) for name in "ab"]
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=[f"{name}\n".encode() for name in names]))
    assert command("map", model, "input=-", "output=map", "shard=1/1").status == 0
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=[]))
    done = command("map", "merge", "output=map")
    assert done.status == 0 and Path("map/a/classes.tif").is_file() and Path("map/b/classes.tif").is_file(), done.err


def test_no_data_at_all(command: Run, model: str, tmp_path: Path) -> None:
    scene = write(tmp_path / "scene.tif", np.zeros((40, 40, 3), np.uint8), nodata=0)
    done = command("map", model, f"input={scene}", "output=map")
    assert done.status == 2 and "holds no data" in done.err and not Path("map/classes.tif").exists()


@pytest.mark.slow
def test_an_interrupted_map_goes_on(tmp_path: Path, model: str) -> None:
    """Killed outright in the middle, and then completed: the same map as in one go."""
    scene = write(tmp_path / "scene.tif", colours([row * 6 for row in REGIONS] * 9))
    line = [sys.executable, "-m", "landuse.map", model, f"input={scene}", "map.stride=0.25", "map.symmetries=true"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    part = tmp_path / "map" / "parts" / "part-1-of-1.bin"
    with subprocess.Popen([*line, f"output={tmp_path}/map"], env=environment, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while not (part.is_file() and part.stat().st_size > 20_000) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert not (tmp_path / "map" / "classes.tif").exists()
    again = subprocess.run(
        [*line, f"output={tmp_path}/map"], env=environment, capture_output=True, text=True, check=True
    )
    assert "going on" in again.stderr
    subprocess.run([*line, f"output={tmp_path}/whole"], env=environment, check=True, stderr=subprocess.DEVNULL)
    assert outputs(tmp_path / "map") == outputs(tmp_path / "whole")

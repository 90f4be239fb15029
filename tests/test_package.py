"""The wheel works outside a checkout, and brings its configuration along."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the unpacked wheel, as pip would lay it out."""
    place = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(place)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = place.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(place / "site")
    return place / "site"


def test_wheel_carries_every_configuration_file(installed: Path) -> None:
    expected = {path.relative_to(ROOT / "conf") for path in (ROOT / "conf").rglob("*.yaml")}
    expected |= {path.relative_to(ROOT) for path in (ROOT / "sweeps").glob("*.yaml")}  # by a link in conf
    assert {
        path.relative_to(installed / "landuse/conf") for path in (installed / "landuse/conf").rglob("*.yaml")
    } == expected
    assert (installed / "landuse/page/assets/page.html").is_file()
    assert (installed / "landuse/py.typed").is_file()


def test_installed_commands_compose(installed: Path, tmp_path: Path) -> None:
    # -S -I would drop the dependencies, too; the checkout is kept out by a path that goes first.
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    command = [sys.executable, "-m", "landuse.train", "--cfg", "job", "experiment=ucmerced_cpu"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert "name: ucmerced" in done.stdout
    where = [sys.executable, "-c", "from landuse.config.folders import config_dir; print(config_dir())"]
    done = subprocess.run(where, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()) == installed / "landuse" / "conf"


def test_lock_names_no_host() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock
    assert "--index-url" not in lock
    assert lock.count("--hash=sha256:") > 500


def test_make_lists_its_targets() -> None:
    done = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True)
    for target in ("train", "test", "lint", "format", "lock", "clean"):
        assert f"make {target}" in done.stdout

"""What all tests share: small image folders, the commands run in this process, and the real images where they are."""

import logging
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

REAL_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

# Whole modules about what this system may not have; single tests say so themselves.
POSIX_ALONE = (  # named pipes, devices, limits of a process, SIGKILL
    "evaluation/test_report.py", "models/test_attacks.py", "sweeps/test_postgres.py", "test_faults.py",
    "test_untrusted_runs.py",
)  # fmt: skip
LINUX_ALONE = ("serving/test_fuzz.py", "sweeps/test_launchers.py", "sweeps/test_workers.py")  # /proc
collect_ignore = [
    *(POSIX_ALONE if not hasattr(os, "mkfifo") else ()), *(LINUX_ALONE if not Path("/proc/self").exists() else ()),
]  # fmt: skip

os.environ.setdefault("WANDB_MODE", "offline")
# Tests run side by side, and threads of PyTorch that share a core with another process wait for each other in a loop.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Tests start many processes. Where Python is told to keep no bytecode, each would compile torch and the rest anew.
if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):
    os.environ["PYTHONPYCACHEPREFIX"] = str(Path(__file__).parents[1] / ".pytest_cache" / "bytecode")


@dataclass
class Finished:
    """How a command ended."""

    status: int
    out: str
    err: str


Run = Callable[..., Finished]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Run]:
    """Run ``python -m landuse.<name> overrides...`` in this process, in an empty folder of its own."""
    import importlib

    from landuse.cli import run_command
    from landuse.page import drawing
    from landuse.tracking import logs

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    monkeypatch.setattr(drawing, "DPI", 40)  # to draw takes a third of the time of tests that train and evaluate

    def run(name: str, *overrides: str) -> Finished:
        monkeypatch.setattr(sys, "argv", [f"landuse.{name}", *overrides])
        job = getattr(importlib.import_module(f"landuse.{name}"), name)
        capsys.readouterr()
        status = 0
        try:
            run_command(name, job)
        except SystemExit as exit_:
            status = int(exit_.code or 0)
        finally:
            os.environ["HYDRA_FULL_ERROR"] = "0"
        captured = capsys.readouterr()
        return Finished(status, captured.out, captured.err)

    logs.stop()  # of a test that has left it on
    loggers = [logging.getLogger(), logging.getLogger("landuse")]
    before = [(logger, logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    yield run
    logs.stop()  # pytest closes the streams of this test
    for logger, handlers, level, propagates in before:  # which a service takes for itself
        logger.handlers[:], logger.propagate = handlers, propagates
        logger.setLevel(level)


def write_images(root: Path, classes: dict[str, tuple[int, int, int]], per_class: int, size_px: int = 16) -> Path:
    """A class-per-folder tree of noisy images, each class about its own colour, so that it can be learnt."""
    draws = np.random.default_rng(0)
    for name, colour in classes.items():
        (root / name).mkdir(parents=True)
        for i in range(per_class):
            pixels = np.clip(np.array(colour) + draws.integers(-40, 40, (size_px, size_px, 3)), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{name}{i:03d}.png")
    return root


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of 20 images of 16 px."""
    colours = {"field": (90, 160, 60), "roof": (170, 80, 70), "water": (40, 80, 150)}
    return write_images(tmp_path_factory.mktemp("images"), colours, per_class=20)


@pytest.fixture
def tiny(image_folder: Path, tmp_path: Path) -> list[str]:
    """Overrides for a training that takes a second: tiny images, tiny network, two epochs."""
    return overrides(image_folder, tmp_path)


def overrides(images: Path, where: Path) -> list[str]:
    """The same, for fixtures of a larger scope."""
    return [
        "data=folder",
        f"data.root={images}",
        f"data.home={where}/data",
        "data.image_size=16",
        "model=cnn",
        "model.depth=2",
        "model.width=4",
        "trainer.device=cpu",
        "trainer.epochs=2",
        "trainer.batch_size=8",
        "trainer.lr=0.01",
        "hardware.precision=fp32",
    ]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real UC Merced and EuroSAT archives that lies beside the checkout, where it does."""
    if not (REAL_DATA / "UCMerced_LandUse.zip").is_file():
        pytest.skip(f"needs the real image archives in {REAL_DATA}")
    return REAL_DATA

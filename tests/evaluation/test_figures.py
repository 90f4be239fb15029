"""The figures are real, small and repeatable PNG files, whatever the data."""

import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from landuse.evaluation import figures
from landuse.evaluation.metrics import reliability_bins, summarise
from landuse.page.drawing import MAX_BYTES

LONG_NAME = "a class whose name goes on and on and on"


def history(num_epochs: int) -> list[dict[str, float]]:
    return [
        {"epoch": e - 1, "train/loss": 2 / e, "val/loss": 2.2 / e, "val/accuracy": 1 - 0.8 / e, "lr": 1e-3 / e}
        for e in range(1, num_epochs + 1)
    ]


def draw_curves(path: Path) -> None:
    figures.curves(history(12), path, best_epoch=9)


def draw_one_epoch(path: Path) -> None:
    figures.curves(history(1), path)


def draw_diverged(path: Path) -> None:
    figures.curves([{**entry, "val/loss": float("nan")} for entry in history(3)], path, best_epoch=99)


def draw_confusion(path: Path) -> None:
    matrix = np.random.default_rng(0).integers(0, 120, (45, 45))
    figures.confusion(matrix.tolist(), [f"class number {i}" for i in range(44)] + [LONG_NAME], path)


def draw_confusion_of_one_class(path: Path) -> None:
    figures.confusion([[123456]], ["$x_1$"], path)  # neither mathematics nor an error


def draw_reliability(path: Path) -> None:
    generator = np.random.default_rng(0)
    confidence = generator.random(500)
    figures.reliability(reliability_bins(confidence, generator.random(500) < confidence), 0.031, path)


def draw_per_class(path: Path) -> None:
    summary = summarise(np.eye(3)[[0, 1, 1]], np.array([0, 1, 0]), ["a", LONG_NAME, "absent"])
    figures.per_class(summary["per_class"], path)


def draw_mistakes(path: Path) -> None:
    # Noise is the worst case for the size of the file.
    images = np.random.default_rng(0).integers(0, 256, (20, 64, 64, 3), dtype=np.uint8)
    figures.mistakes(images, ["river"] * 20, [LONG_NAME] * 20, [0.97] * 20, path)


def draw_no_mistakes(path: Path) -> None:
    figures.mistakes(np.empty((0, 64, 64, 3), np.uint8), [], [], [], path)


DRAWINGS = [
    draw_curves, draw_one_epoch, draw_diverged, draw_confusion, draw_confusion_of_one_class, draw_reliability,
    draw_per_class, draw_mistakes, draw_no_mistakes,
]  # fmt: skip


@pytest.mark.parametrize("draw", DRAWINGS)
def test_figure_is_a_small_png_that_shows_something(draw: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "figures" / "figure.png"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw(path)
    assert path.stat().st_size < MAX_BYTES
    assert list(path.parent.iterdir()) == [path]
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.info == {}  # neither time nor version of the software
        assert len(np.unique(np.asarray(image.convert("L")))) > 3


@pytest.mark.parametrize("draw", [draw_curves, draw_confusion_of_one_class])
def test_same_data_gives_same_bytes(draw: Callable[[Path], None], tmp_path: Path) -> None:
    draw(tmp_path / "first.png")
    draw(tmp_path / "second.png")
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "second.png").read_bytes()


def test_the_users_style_changes_neither_the_figure_nor_is_it_changed(tmp_path: Path) -> None:
    import matplotlib

    draw_reliability(tmp_path / "plain.png")
    with matplotlib.rc_context({"font.size": 40, "axes.facecolor": "black"}):
        draw_reliability(tmp_path / "styled.png")
        assert matplotlib.rcParams["font.size"] == 40
    assert (tmp_path / "plain.png").read_bytes() == (tmp_path / "styled.png").read_bytes()


def test_gallery_shows_the_images(tmp_path: Path) -> None:
    images = np.zeros((2, 8, 8, 3), np.uint8)
    images[0, ..., 0] = images[1, ..., 2] = 255
    figures.mistakes(images, ["a", "b"], ["b", "a"], [0.9, 0.8], tmp_path / "mistakes.png")
    with Image.open(tmp_path / "mistakes.png") as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    height, width, _ = pixels.shape
    assert np.abs(pixels[height // 2, width // 6] - [255, 0, 0]).max() < 8
    assert np.abs(pixels[height // 2, width // 2] - [0, 0, 255]).max() < 8
    assert pixels[height // 2, 5 * width // 6].min() > 247


def test_wrong_data_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "figure.png"
    with pytest.raises(ValueError, match="history is empty"):
        figures.curves([], path)
    with pytest.raises(ValueError, match="square"):
        figures.confusion([[1, 2]], ["a", "b"], path)
    with pytest.raises(ValueError, match="no image"):
        figures.reliability([], 0.0, path)
    with pytest.raises(ValueError, match="no class"):
        figures.per_class({}, path)
    with pytest.raises(ValueError, match="uint8 of shape"):
        figures.mistakes(np.zeros((1, 3, 8, 8), np.uint8), ["a"], ["b"], [0.5], path)
    with pytest.raises(ValueError, match="as many true classes"):
        figures.mistakes(np.zeros((1, 8, 8, 3), np.uint8), [], ["b"], [0.5], path)
    assert not path.exists()


def test_the_import_is_cheap_and_drawing_leaves_pyplot_alone(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "import landuse.evaluation.predictions, landuse.evaluation.figures as figures, landuse.evaluation.report\n"
        "assert not {'torch', 'matplotlib', 'PIL'} & set(sys.modules), sorted(sys.modules)\n"
        "import numpy as np, pathlib\n"
        "figures.confusion([[1]], ['a'], pathlib.Path(sys.argv[1]))\n"
        "assert not {'torch', 'matplotlib.pyplot'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "figure.png")], check=True)

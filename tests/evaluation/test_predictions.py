"""The predictions file gives back what was put in, and names the line where it cannot."""

from pathlib import Path

import numpy as np
import pytest

from landuse.evaluation.predictions import Predictions, read_csv, write_csv

CLASSES = ["airplane", 'comma, "quote"', "Wohngebiet dünn · 住宅", "p:prefix", "=cmd()"]
HEADER = "path,label,prediction,confidence,p:a,p:b\n"


def sample(num_images: int = 50) -> Predictions:
    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet(np.full(len(CLASSES), 0.05), num_images)  # many tiny and zero values
    return Predictions(
        paths=[f'folder, {i}/ünï "{i}".tif' for i in range(num_images)],
        labels=generator.integers(0, len(CLASSES), num_images),
        probabilities=probabilities,
        classes=CLASSES,
    )


def test_round_trip_is_identical(tmp_path: Path) -> None:
    written = sample()
    write_csv(tmp_path / "predictions.csv", written)
    read = read_csv(tmp_path / "predictions.csv")
    assert (read.paths, read.classes) == (written.paths, written.classes)
    assert read.labels.dtype == np.int64
    np.testing.assert_array_equal(read.labels, written.labels)
    assert read.probabilities.tobytes() == written.probabilities.tobytes()


def test_names_that_break_naive_files_survive(tmp_path: Path) -> None:
    paths = ["line\nbreak.png", "line\rbreak.png", "latin1-\udce9.png", "", "#comment", " spaces "]
    written = Predictions(paths, np.zeros(6, np.int64), np.tile([0.75, 0.25], (6, 1)), ["a\rb", ""])
    write_csv(tmp_path / "predictions.csv", written)
    read = read_csv(tmp_path / "predictions.csv")
    assert (read.paths, read.classes) == (paths, ["a\rb", ""])


def test_columns_and_values(tmp_path: Path) -> None:
    predictions = Predictions(["x.png"], np.array([0]), np.array([[0.1, 0.9]]), ["a", "b"])
    write_csv(tmp_path / "predictions.csv", predictions)
    assert (tmp_path / "predictions.csv").read_text() == HEADER + "x.png,a,b,0.9,0.1,0.9\n"


def test_no_image_at_all(tmp_path: Path) -> None:
    write_csv(tmp_path / "predictions.csv", Predictions([], np.empty(0, np.int64), np.empty((0, 2)), ["a", "b"]))
    assert read_csv(tmp_path / "predictions.csv").probabilities.shape == (0, 2)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    path.write_text("old")
    broken = Predictions(["ok.png", 7], np.array([0, 0]), np.ones((2, 1)), ["\ud800"])  # type: ignore[list-item]
    with pytest.raises(UnicodeEncodeError):
        write_csv(path, broken)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_most_confident_mistakes_come_first() -> None:
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.3, 0.7], [0.8, 0.2]])
    predictions = Predictions(list("vwxyz"), np.array([0, 1, 0, 0, 1]), probabilities, ["a", "b"])
    assert predictions.most_confident_mistakes(3).tolist() == [2, 4, 3]
    assert predictions.most_confident_mistakes(9).tolist() == [2, 4, 3, 1]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", 1, "expected the columns path,label,prediction,confidence,p:<class>"),
        ("path,label\n", 1, "expected the columns"),
        ("path,label,prediction,confidence\n", 1, "expected the columns"),
        ("path,label,prediction,confidence,p:a,p:a\n", 1, "two columns"),
        (HEADER + "x,a,a,0.9,0.9,0.1\nx,a,a,0.9,0.9\n", 3, "expected 6 cells, got 5"),
        (HEADER + "x,c,a,0.9,0.9,0.1\n", 2, "class 'c' has no column 'p:c'"),
        (HEADER + "x,a,a,0.9,0.9,zero\n", 2, "could not convert string to float: 'zero'"),
        (HEADER + "x,a,a,0.9,0.9,nan\n", 2, "finite"),
        (HEADER + "x,a,b,0.9,0.9,0.1\n", 2, "contradicts"),
        (HEADER + "x,a,a,0.8,0.9,0.1\n", 2, "contradicts"),
        (HEADER + '"two\nlines",a,a,0.9,0.9,0.1\nx,a,a,0.9,0.9,x\n', 4, "could not convert"),
    ],
)
def test_errors_name_file_and_line(tmp_path: Path, text: str, line: int, message: str) -> None:
    path = tmp_path / "predictions.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        read_csv(path)
    assert str(caught.value).startswith(f"{path}, line {line}: ")


@pytest.mark.parametrize(
    ("labels", "shape", "classes", "message"),
    [
        ([0, 1], (1, 2), ["a", "b"], "labels of shape"),
        ([0], (1, 3), ["a", "b"], "probabilities of shape"),
        ([2], (1, 2), ["a", "b"], r"labels must lie in 0\.\.1, got 2\.\.2"),
        ([0], (1, 2), ["a", "a"], "different"),
    ],
)
def test_parts_must_fit_together(labels: list[int], shape: tuple[int, int], classes: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Predictions(["x.png"], np.array(labels), np.ones(shape), classes)

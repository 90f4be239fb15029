"""References: made, projected, saved, and read from strangers."""

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from landuse.errors import UserError
from landuse.monitoring.reference import (
    COMPONENTS,
    ENOUGH,
    MOST_ROWS,
    Reference,
    load,
    make_reference,
    save,
)
from landuse.monitoring.statistics import NAMES
from tests.monitoring.scenes import CLASSES, FEATURES, reference, scene


def test_the_components_are_principal_and_whitened() -> None:
    draws = np.random.default_rng(0)
    strong = draws.normal(size=(2000, 2)) * [10, 5]
    basis = np.linalg.qr(draws.normal(size=(30, 30)))[0][:2]
    features = (strong @ basis + draws.normal(0, 0.1, (2000, 30)) + 3).astype(np.float32)
    images, probabilities, _ = scene(0, 2000, side=8)
    made = make_reference(images, probabilities, features)
    assert made.components.shape == (COMPONENTS, 30) and made.rows.features.shape == (1500, COMPONENTS)
    directions = made.components[:2] / np.linalg.norm(made.components[:2], axis=1, keepdims=True)
    np.testing.assert_allclose(np.abs(directions @ basis.T), np.eye(2), atol=0.1)
    np.testing.assert_allclose(made.rows.features.std(axis=0)[:2], 1, rtol=0.1)
    np.testing.assert_allclose(made.rows.features.mean(axis=0)[:2], 0, atol=0.1)


def test_the_same_images_give_the_same_file(tmp_path: Path) -> None:
    for name in "ab":
        save(tmp_path / name, reference())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_of_many_images_a_part_is_chosen() -> None:
    images, probabilities, features = scene(0, ENOUGH + 300, side=8)
    rows = make_reference(images, probabilities, features).rows
    assert all(len(values) == MOST_ROWS for values in rows)


@pytest.mark.parametrize(
    ("n", "num_rows", "num_components"), [(1, 1, 0), (7, 7, 0), (8, 6, 1), (35, 27, 7), (36, 27, COMPONENTS)]
)
def test_few_images_have_few_components(n: int, num_rows: int, num_components: int, tmp_path: Path) -> None:
    save(tmp_path / "r", reference(n=n))
    made = load(tmp_path / "r", CLASSES, FEATURES)
    assert made.rows.features.shape == (num_rows, num_components)


def test_features_that_never_change_have_no_components(tmp_path: Path) -> None:
    images, probabilities, features = scene(0, 100)
    made = make_reference(images, probabilities, np.full_like(features, 0.3))
    assert made.rows.features.shape == (100 - 25, 0)
    save(tmp_path / "r", made)
    assert load(tmp_path / "r").components.shape == (0, FEATURES)


def test_rows_need_as_many_of_each() -> None:
    images, probabilities, features = scene(0, 10)
    for wrong in ((images[:9], probabilities, features), (images[:0], probabilities[:0], features[:0])):
        with pytest.raises(ValueError, match="as many"):
            make_reference(*wrong)


def test_what_is_saved_is_read(tmp_path: Path) -> None:
    made = reference()
    save(tmp_path / "r.safetensors", made)
    read = load(tmp_path / "r.safetensors", CLASSES, FEATURES)
    assert (read.num_classes, read.split) == (CLASSES, "val")
    tensors = [(*source.rows, source.centre, source.components) for source in (made, read)]
    for one, other in zip(*tensors, strict=True):
        assert one.dtype == other.dtype and np.array_equal(one, other)
    assert list(tmp_path.iterdir()) == [tmp_path / "r.safetensors"]


def test_rows_of_images() -> None:
    made = reference()
    images, probabilities, features = scene(1, 7)
    rows = made.rows_of(images, probabilities.astype(np.float32), features)
    assert rows.statistics.shape == (7, len(NAMES)) and rows.features.shape == (7, COMPONENTS)
    assert np.array_equal(rows.predicted, probabilities.argmax(axis=1))
    np.testing.assert_allclose(rows.confidence, probabilities.max(axis=1), rtol=1e-6)
    np.testing.assert_allclose(rows.features, (features - made.centre) @ made.components.T, rtol=1e-3, atol=1e-4)


def write(path: Path, tensors: dict[str, np.ndarray], about: dict[str, object]) -> None:
    """A reference that is sound but for what is given."""
    made = reference(n=100)
    own = {**made.rows._asdict(), "centre": made.centre, "components": made.components}
    own_about = {"format_version": 1, "statistics": NAMES, "num_classes": CLASSES, "split": "val"}
    path.write_bytes(safetensors.numpy.save(own | tensors, {"landuse-reference": json.dumps(own_about | about)}))


@pytest.mark.parametrize(
    ("tensors", "about", "message"),
    [
        ({}, {"format_version": 2}, "format_version 1"),
        ({}, {"statistics": ["red", "green"]}, "another version"),
        ({}, {"num_classes": 1}, "2 or more"),
        ({}, {"num_classes": "6"}, "2 or more"),
        ({}, {"split": None}, "must be text"),
        ({"more": np.zeros(3, np.float32)}, {}, "its tensors are"),
        ({"confidence": np.zeros(75)}, {}, "confidence must be float32"),
        ({"confidence": np.full(75, 2, np.float32)}, {}, "between 0 and 1"),
        ({"confidence": np.full(75, np.nan, np.float32)}, {}, "not finite"),
        ({"confidence": np.zeros((), np.float32)}, {}, "unsized"),
        ({"predicted": np.full(75, CLASSES)}, {}, "names no class"),
        ({"predicted": np.full(75, -1)}, {}, "names no class"),
        ({"statistics": np.zeros((75, 3), np.float32)}, {}, "statistics has the shape"),
        ({"features": np.zeros((75, 3), np.float32)}, {}, "features has the shape"),
        ({"centre": np.zeros(3, np.float32)}, {}, "components has the shape"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(
    tmp_path: Path, tensors: dict[str, np.ndarray], about: dict[str, object], message: str
) -> None:
    path = tmp_path / "reference.safetensors"
    write(path, tensors, about)
    with pytest.raises(UserError, match=message) as raised:
        load(path)
    assert str(path) in str(raised.value) and "Export the run again" in str(raised.value)


def test_a_reference_with_no_rows_or_too_many_is_refused(tmp_path: Path) -> None:
    own = reference(n=100).rows._asdict()
    for n in (0, MOST_ROWS + 1):
        write(tmp_path / "r", {name: np.zeros((n, *one.shape[1:]), one.dtype) for name, one in own.items()}, {})
        with pytest.raises(UserError, match="too many rows"):
            load(tmp_path / "r")


def test_a_file_of_weights_is_refused(tmp_path: Path) -> None:
    safetensors.numpy.save_file({"weight": np.zeros(3)}, tmp_path / "r")
    with pytest.raises(UserError, match="not the format"):
        load(tmp_path / "r")


@pytest.mark.parametrize("content", [b"", b"\x80\x04N.", b"\xff" * 100, (10**9).to_bytes(8, "little") + b"{}"])
def test_what_is_no_safetensors_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "r").write_bytes(content)
    with pytest.raises(UserError, match="is no reference"):
        load(tmp_path / "r")


def test_missing_files_and_folders_are_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is missing"):
        load(tmp_path / "absent")
    with pytest.raises(UserError, match="no regular file"):
        load(tmp_path)


def test_a_reference_of_another_model_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "r", reference())
    with pytest.raises(UserError, match="another number of classes"):
        load(tmp_path / "r", CLASSES + 1, FEATURES)
    with pytest.raises(UserError, match="other features"):
        load(tmp_path / "r", CLASSES, FEATURES + 1)


def test_the_components_are_not_fitted_to_the_rows_that_are_compared() -> None:
    """Else rows of the reference would scatter more than new ones, and the comparison begin with a difference."""
    made: Reference = make_reference(*scene(0, 100))
    new = made.project(scene(1, 2000, side=8)[2])
    ratio = made.rows.features.std(axis=0) / new.std(axis=0)
    assert 0.9 < ratio.mean() < 1.1

"""Many files through an engine: in order, few at a time, and whatever they are."""

import os
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from landuse.serving.bulk import AHEAD, answer_files
from landuse.serving.engine import Engine
from tests.serving.tiny_model import COLOURS, picture, write_exported


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return Engine(write_exported(tmp_path_factory.mktemp("model")))


def write(path: Path, name: str, size_px: int = 16) -> Path:
    Image.fromarray(picture(name, size_px=size_px)).save(path)
    return path


def test_answers_come_in_the_order_of_the_files(engine: Engine, tmp_path: Path) -> None:
    """Also where the first images take the longest."""
    names = [list(COLOURS)[i % 3] for i in range(24)]
    paths = [write(tmp_path / f"{i}.png", name, 2000 if i < 2 else 16) for i, name in enumerate(names)]
    batches = list(answer_files(engine, paths, num_threads=3, batch_size=2))
    assert [path for batch in batches for path in batch.paths] == paths
    found = np.concatenate([batch.answers.probabilities for batch in batches if batch.answers is not None])
    assert [engine.model.classes[i] for i in found.argmax(axis=1)] == names
    features = np.concatenate([batch.answers.features for batch in batches if batch.answers is not None])
    np.testing.assert_allclose(features[:, :3] * 255, [COLOURS[name] for name in names], atol=0.01)


def test_a_few_files_are_shared_by_all_threads(engine: Engine, tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{i}.png", "water") for i in range(5)]
    assert [len(batch.paths) for batch in answer_files(engine, paths, num_threads=2, batch_size=32)] == [3, 2]


def test_files_that_cannot_be_used_leave_the_others_in_place(engine: Engine, tmp_path: Path) -> None:
    paths = [write(tmp_path / "roof.png", "roof"), tmp_path / "absent.png", tmp_path, tmp_path / "empty.png",
             tmp_path / "text.png", tmp_path / "pipe.png", write(tmp_path / "field.png", "field")]  # fmt: skip
    paths[3].touch()
    paths[4].write_text("no image")
    os.mkfifo(paths[5])
    (batch,) = answer_files(engine, paths, num_threads=1, batch_size=32)
    assert batch.answers is not None
    assert [engine.model.classes[i] for i in batch.answers.probabilities.argmax(axis=1)] == ["roof", "field"]
    assert batch.problems[0] is None and batch.problems[6] is None
    for problem, expected in zip(
        batch.problems[1:6],
        ["No such file", "no regular file", "the file is empty", "no known image format", "no regular file"],
        strict=True,
    ):
        assert problem is not None and expected in problem


def test_a_batch_of_none_but_unusable_files(engine: Engine, tmp_path: Path) -> None:
    (batch,) = answer_files(engine, [tmp_path / "absent.png"], num_threads=1, batch_size=4)
    assert batch.answers is None and batch.problems[0] is not None


class Recorded(Sequence):
    """As many paths of one image as one likes, and up to where they were taken."""

    def __init__(self, path: Path, count: int) -> None:
        self._path, self._count, self.taken = path, count, 0

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, rows):
        self.taken = max(self.taken, rows.stop)
        return [self._path] * len(range(*rows.indices(self._count)))


def test_no_more_is_read_than_a_few_batches_ahead(engine: Engine, tmp_path: Path) -> None:
    paths = Recorded(write(tmp_path / "a.png", "water"), 1_000_000)
    before = threading.active_count()
    with closing(answer_files(engine, paths, num_threads=2, batch_size=3)) as batches:
        next(batches)
        next(batches)
        deadline = time.monotonic() + 10
        while paths.taken < (AHEAD * 2 + 1) * 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)
        assert paths.taken == (AHEAD * 2 + 1) * 3
    assert threading.active_count() == before

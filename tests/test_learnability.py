"""The embedded dataset is worth learning: pixels alone do not give the class away, the default network finds it."""

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from landuse.config.schema import DataConfig
from landuse.data.pack import prepare

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


def test_linear_classifier_stays_below_half(home: Path) -> None:
    pack = prepare(DataConfig(home=str(home)))
    train, val = (pack.split(name) for name in ("train", "val"))
    pixels = {split.name: (split.images / 255 - pack.mean) / pack.std for split in (train, val)}
    flat = {name: images.reshape(len(images), -1).astype(np.float32) for name, images in pixels.items()}
    linear = LogisticRegression(C=1e-4, max_iter=100).fit(flat["train"], train.labels)
    assert 0.15 < linear.score(flat["val"], val.labels) < 0.5


def test_default_network_passes_90_percent(command, home: Path, tmp_path: Path) -> None:
    assert command("train", f"data.home={home}").status == 0
    summary = json.loads((tmp_path / "outputs/latest/summary.json").read_text())
    assert summary["val/accuracy"] > 0.9

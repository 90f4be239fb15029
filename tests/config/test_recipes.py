"""Every YAML file under conf/ is composed, validated, and trained for two steps on tiny data."""

import re
from pathlib import Path

import pytest
import torch
import torchvision

from landuse.config.folders import config_dir
from landuse.data.synthetic import CLASSES
from tests.conftest import write_images

CONF = config_dir()
SMALL = [
    "trainer.device=cpu",
    "trainer.epochs=1",
    "trainer.warmup_epochs=0",
    "trainer.limit_train_batches=2",
    "trainer.limit_val_batches=1",
    "trainer.batch_size=4",
]
TINY_CNN = ["model=cnn", "model.width=4", "model.depth=2"]


def choices(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    colours = {name: (40 + 9 * i, 200 - 8 * i, 90 + 5 * i) for i, name in enumerate(CLASSES)}
    return write_images(tmp_path_factory.mktemp("scenes"), colours, per_class=10, size_px=32)


def trains(command, *overrides: str) -> None:
    done = command("train", *overrides)
    assert done.status == 0, done.err


def folder(scenes: Path, size_px: int = 32) -> list[str]:
    """The image folder under whatever name the recipe gives it, with a small image size."""
    return [
        "data.source=folder",
        f"data.root={scenes}",
        f"data.home={scenes.parent}/packs",
        f"data.image_size={size_px}",
    ]


LARGE = ("convnext_tiny", "resnet50", "swin_t", "vit_b_16")  # each takes longer than most others together


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in LARGE else ()) for name in choices("model")]
)
def test_model(command, scenes: Path, name: str, tmp_path: Path) -> None:
    extra = []
    if name == "custom":
        (tmp_path / "nets_of_test.py").write_text(
            "from torch import nn\n"
            "def small(num_classes):\n"
            "    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, num_classes))\n"
        )
        extra = ["model.target=nets_of_test.small"]
    size_px = 64 if name == "cnn" else 32
    trains(command, f"model={name}", *extra, *folder(scenes, size_px), "trainer.lr=1e-4", *SMALL)


@pytest.mark.parametrize("name", choices("data"))
def test_data(command, scenes: Path, name: str) -> None:
    trains(command, f"data={name}", *folder(scenes), *TINY_CNN, *SMALL)


@pytest.mark.parametrize("group", ["augment", "trainer", "tracking"])
def test_other_groups(command, scenes: Path, group: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in choices(group):
        trains(command, f"{group}={name}", *folder(scenes), *TINY_CNN, *SMALL, f"run_name={group}-{name}")


@pytest.mark.parametrize("name", choices("hardware"))
def test_hardware(command, scenes: Path, name: str) -> None:
    extra = ["hardware.compile=false"] if name == "cuda" else []  # compiling takes minutes on a CPU
    trains(command, f"hardware={name}", *extra, *folder(scenes), *TINY_CNN, *SMALL)


@pytest.mark.parametrize("name", choices("experiment"))
def test_experiment(command, scenes: Path, name: str, tmp_path: Path) -> None:
    extra = TINY_CNN if name == "pipeline" else []
    if name == "ucmerced_pretrained":
        torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "resnet18.pth")
        extra = ["model=resnet18", f"model.weights={tmp_path / 'resnet18.pth'}"]
    trains(command, f"experiment={name}", *folder(scenes), "augment.size=32", "augment.start_size=16", *extra, *SMALL)


@pytest.mark.parametrize("name", choices("debug"))
def test_debug(command, scenes: Path, name: str) -> None:
    small = [override for override in SMALL if "epochs" in override or "device" in override]
    trains(command, f"+debug={name}", *folder(scenes), *TINY_CNN, *small, "trainer.batch_size=4")


def test_overfit_preset_learns_by_heart(command, scenes: Path) -> None:
    done = command(
        "train",
        "+debug=overfit",
        *folder(scenes),
        "model.width=8",
        "model.depth=3",
        "trainer.batch_size=16",
        "trainer.device=cpu",
    )
    assert done.status == 0
    assert "val accuracy 1.0000" in done.err


def test_every_key_is_documented() -> None:
    """Each field of the schema carries a comment: the file is the reference of the configuration."""
    schema = (Path(__file__).parents[2] / "src/landuse/config/schema.py").read_text().splitlines()
    fields = [line.strip() for line in schema if re.match(r"    \w+: .* = ", line)]
    assert len(fields) > 80
    assert [field for field in fields if "  # " not in field] == []

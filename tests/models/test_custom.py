"""The user's own class is found, called and checked; errors in it reach the user unchanged."""

import sys
from pathlib import Path

import pytest
import torch

from landuse.config.schema import CustomModelConfig
from landuse.errors import UserError
from landuse.models.registry import build_model

USER_CODE = """
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes, width=4, outputs=None):
        super().__init__()
        self.layers = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, outputs or num_classes))
    def forward(self, images):
        return self.layers(images)

class Pair(Net):
    def forward(self, images):
        return super().forward(images), None

class Fixed(nn.Sequential):
    def __init__(self, num_classes):
        super().__init__(nn.Flatten(), nn.Linear(3 * 8 * 8, num_classes))

class Buggy(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        len(num_classes)

def not_a_module(num_classes):
    return num_classes

number = 3
"""


@pytest.fixture(autouse=True)
def _user_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder, made the current one, with the user's modules."""
    (tmp_path / "user_nets.py").write_text(USER_CODE)
    (tmp_path / "user_broken.py").write_text("import package_that_is_not_installed\n")
    (tmp_path / "user_raises.py").write_text("raise OSError('library xyz not found')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    for name in ("user_nets", "user_broken", "user_raises"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def custom(name: str, **params: object) -> CustomModelConfig:
    return CustomModelConfig(target=name, params=params)


def test_custom_class_is_found_in_the_current_folder() -> None:
    model = build_model(custom("user_nets.Net", width=8), 5, 16)
    assert type(model).__name__ == "Net"
    assert model(torch.zeros(2, 3, 16, 16)).shape == (2, 5)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (custom("no_such_package.nets.Net"), "there is no module no_such_package. Run from the folder that holds it"),
        (custom("user_nets.nested.Net"), "there is no module user_nets.nested"),
        (custom("user_nets.Nett"), "user_nets.py has no class or function Nett"),
        (custom("user_nets.number"), "has no class or function number"),
        (
            custom("user_nets.Net", depth=3),
            r"cannot be called with num_classes=5 .* unexpected keyword argument 'depth'",
        ),
        (custom("user_nets.not_a_module"), "must give an nn.Module, but gave int"),
        (custom("user_nets.Net", outputs=7), r"to logits \(2, 5\), but gives \(2, 7\)"),
        (custom("user_nets.Pair"), r"to logits \(2, 5\), but gives tuple"),
        (custom("user_nets.Fixed"), r"fails on images \(2, 3, 16, 16\): RuntimeError: .*mat1 and mat2 shapes"),
    ],
)
def test_custom_mistakes_are_explained(config: CustomModelConfig, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_model(config, 5, 16)


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        ("user_broken.Net", ModuleNotFoundError, "package_that_is_not_installed"),
        ("user_raises.Net", OSError, "library xyz not found"),
        ("user_nets.Buggy", TypeError, "object of type 'int' has no len"),
    ],
)
def test_errors_inside_custom_code_reach_the_user(target: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        build_model(custom(target), 5, 16)

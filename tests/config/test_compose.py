"""Composition to typed objects, and the overlay of a run's configuration."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from landuse.config.compose import from_tree, overlay, register, to_config
from landuse.config.folders import config_dir
from landuse.config.schema import CNNConfig, Config, TorchvisionConfig
from landuse.errors import UserError
from landuse.runs import to_tree


def composed(*overrides: str) -> DictConfig:
    register()
    with initialize_config_dir(str(config_dir())):
        return compose("config", list(overrides))


def test_defaults_equal_the_schema() -> None:
    """The trainer's defaults are those of its dataclass; YAML only selects."""
    config = to_config(composed("augment=none", "run_name=x"))
    expected = Config(model=CNNConfig(), experiment_name="synthetic_cnn", run_name="x")
    expected.data.home = config.data.home
    assert config == expected


def test_model_gets_its_own_class() -> None:
    assert isinstance(to_config(composed("model=cnn")).model, CNNConfig)
    densenet = to_config(composed("model=densenet121")).model
    assert isinstance(densenet, TorchvisionConfig)
    assert densenet.name == "densenet121"


def test_debug_overfit_turns_augmentation_off() -> None:
    config = to_config(composed("+debug=overfit"))
    assert config.augment == to_config(composed("augment=none")).augment


def test_data_home_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANDUSE_DATA", "/somewhere")
    assert to_config(composed()).data.home == "/somewhere"


def test_written_configuration_reads_back() -> None:
    config = to_config(composed("model=resnet50", "experiment=ucmerced_cpu"))
    assert from_tree(to_tree(config)) == config


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"trainer": {"lrr": 1}}, "trainer.lr"),
        ({"trainer": {"lr": "x"}}, "trainer.lr=x"),
        ({"model": {"kind": "y"}}, "model.kind=y"),
    ],
)
def test_a_foreign_configuration_is_checked(tree: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        from_tree({"model": {"kind": "cnn"}} | tree)


def test_overlay_keeps_the_run_and_takes_what_was_typed() -> None:
    run = to_tree(to_config(composed("data=eurosat", "trainer.batch_size=7", "model.width=9", "data.home=/then")))
    overrides = ["evaluation.symmetries=true", "trainer.device=cpu"]
    config = overlay(run, composed(*overrides, "data.home=/now"), overrides)
    assert (config.data.name, config.trainer.batch_size) == ("eurosat", 7)
    assert isinstance(config.model, CNNConfig)
    assert config.model.width == 9
    assert config.evaluation.symmetries is True
    assert config.trainer.device == "cpu"
    assert config.data.home == "/now"  # of the machine, not of the run


def test_overlay_replaces_a_whole_group() -> None:
    run = to_tree(to_config(composed("data=eurosat", "data.split.seed=5")))
    overrides = ["data=ucmerced", "data.image_size=32"]
    config = overlay(run, composed(*overrides), overrides)
    assert (config.data.name, config.data.split.seed, config.data.image_size) == ("ucmerced", 0, 32)


def test_configuration_folder_is_the_checkouts() -> None:
    assert config_dir() == Path(__file__).resolve().parents[2] / "conf"

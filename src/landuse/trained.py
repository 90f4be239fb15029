"""A finished run as later commands open it: its configuration under the present command line, and its model."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from omegaconf import DictConfig

from landuse import runs
from landuse.config import compose
from landuse.config.schema import Config, CustomModelConfig, ModelConfig
from landuse.errors import UserError

if TYPE_CHECKING:
    from landuse.models.export import LoadedModel

log = logging.getLogger(__name__)


class Call(Protocol):
    """How a command was called; see :class:`landuse.cli.Invocation`."""

    @property
    def composed(self) -> DictConfig:
        """The command line's own composition."""

    @property
    def overrides(self) -> list[str]:
        """As typed."""

    @property
    def asks_for_tracking(self) -> bool:
        """Whether the command line says whether to send to W&B."""

    def names(self, key: str) -> bool:
        """Whether the command line sets this very key."""


def configuration(folder: Path, call: Call) -> Config:
    """The run's configuration under this command line, without what only a training asks; not validated.

    Raises:
        UserError: there is no run, its configuration is not what training wrote, or it is of another image size than
            the run's model.
    """
    run_tree = runs.read_config(folder)
    trained_size = _trained_size(run_tree, folder)
    config = compose.overlay(run_tree, call.composed, call.overrides)
    config.trainer.resume = "never"
    if config.tracking.mode == "online" and not call.asks_for_tracking:  # a stranger's run must not make us send
        config.tracking.mode = "off"
    config.model.weights, config.model.freeze_backbone = None, False
    if not call.names("data.max_images"):
        config.data.max_images = None
    if not call.names("data.image_size"):
        config.data.image_size = trained_size
    return config


def open_model(folder: Path, config: Config, call: Call) -> "LoadedModel":
    """The run's model.

    Raises:
        UserError: there is none, it is damaged, it needs ``model.target`` on the command line, or the command line or
            config.yaml says something else of it.
    """
    from landuse.models.export import load_model

    model = load_model(folder / "model", _custom_model(config, call))
    _require_same_model(config.model, call, model.info["architecture"], folder)
    trained_size = _trained_size(runs.read_config(folder), folder)
    if model.image_size != trained_size:
        raise UserError(
            f"{folder}: model/model.json says {model.image_size} px and config.yaml {trained_size} px, so one of them "
            "was changed. Copy the run folder again, or train again."
        )
    return model


def require_same_classes(model: Sequence[str], data: Sequence[str]) -> None:
    """Make sure that a model and data are of the same classes, in the same order.

    Raises:
        UserError: they are not.
    """
    if list(model) != list(data):
        raise UserError(
            f"The model knows the classes {', '.join(model)}, but the data has {', '.join(data)}: give data of the "
            "same classes."
        )


def _trained_size(run_tree: dict[str, Any], folder: Path) -> int:
    """Read before anything else of the configuration is used, whose form may not be what training wrote."""
    try:
        return compose.from_tree(run_tree).data.image_size
    except UserError as error:
        raise UserError(f"{folder / 'config.yaml'} is not what training wrote: {error}") from error


def _custom_model(config: Config, call: Call) -> CustomModelConfig | None:
    """The user's own class, only when this command line names it; what a run folder names is never imported."""
    named = call.names("model.target")
    return config.model if named and isinstance(config.model, CustomModelConfig) else None


def _require_same_model(asked: ModelConfig, call: Call, described: dict[str, Any], folder: Path) -> None:
    """The weights are those of the run, so a key of the model can only say what the run says already."""
    from landuse.models.description import architecture_of

    own = architecture_of(asked)
    what = "kind" if isinstance(asked, CustomModelConfig) else "name"
    if call.names("model") and own[what] != described[what]:
        raise UserError(
            f"model={own[what]}, but {folder} holds a {described['name']}: give another run= or drop model=."
        )
    typed = {
        override.lstrip("+").partition("=")[0].split(".")[1]
        for override in call.overrides
        if override.lstrip("+").startswith("model.")
    }
    for key in described:
        if key in typed and what == "name" and own[key] != described[key]:
            raise UserError(
                f"model.{key}={own[key]}, but {folder} holds a model with {key}={described[key]}: drop the key, or "
                "train another model."
            )

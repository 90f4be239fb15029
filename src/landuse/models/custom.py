"""The user's own network, imported by the path that the user's own configuration gives."""

import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from landuse.config.schema import CustomModelConfig
from landuse.errors import UserError


def build_custom(config: CustomModelConfig, num_classes: int, image_size: int) -> nn.Module:
    """``target(num_classes=num_classes, **params)``. Errors inside the user's code reach the user as they are.

    Raises:
        UserError: the target cannot be found, does not take these arguments or does not give an ``nn.Module``.
    """
    target = _import(config.target or "")
    try:
        # Bound first, so that only wrong arguments are reported as such and not every TypeError of the user's code.
        inspect.signature(target).bind(num_classes=num_classes, **config.params)
    except TypeError as error:
        raise UserError(
            f"model.target={config.target} cannot be called with num_classes={num_classes} and"
            f" model.params={config.params}: {error}."
        ) from error
    model = target(num_classes=num_classes, **config.params)
    if not isinstance(model, nn.Module):
        raise UserError(f"model.target={config.target} must give an nn.Module, but gave {type(model).__name__}.")
    return model


def _import(target: str) -> Callable[..., Any]:
    module_path, _, attribute = target.rpartition(".")
    if str(Path.cwd()) not in sys.path:  # an installed script, unlike "python -m", does not look in the current folder
        sys.path.append(str(Path.cwd()))
    try:
        module = importlib.import_module(module_path)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_path}.".startswith(f"{error.name}."):
            raise  # the module was found, and itself imports something that was not
        raise UserError(
            f"model.target={target}: there is no module {error.name}. Run from the folder that holds it, or install it."
        ) from error
    found = getattr(module, attribute, None)
    if not callable(found):
        raise UserError(f"model.target={target}: {module.__file__} has no class or function {attribute}.")
    return found  # type: ignore[no-any-return]

"""Any classifier of torchvision, for any number of classes."""

from typing import Any

from torch import nn

from landuse.config.schema import TorchvisionConfig
from landuse.errors import UserError

# Auxiliary classifiers would make forward() return tuples. Their ImageNet weights expect inputs scaled by
# transform_input, and init_weights only silences a warning about a changed default.
_INCEPTION_ARGUMENTS = {"aux_logits": False, "transform_input": True, "init_weights": True}


def build_torchvision(config: TorchvisionConfig, num_classes: int, image_size: int) -> nn.Module:
    """The classifier with random weights; ``config`` has passed :func:`landuse.models.rules.architecture_problems`.

    Raises:
        UserError: ``model.params`` holds an argument that torchvision's builder does not take.
    """
    from torchvision.models import get_model  # here, because it takes seconds

    arguments = _arguments(config.name, image_size)
    try:
        model: nn.Module = get_model(config.name, weights=None, num_classes=num_classes, **arguments, **config.params)
    except Exception as error:  # of odd arguments, each architecture makes errors of its own
        if not config.params:
            raise
        problem = str(error).partition("\n")[0].rstrip(".")  # torch adds its own stack
        raise UserError(f"model.params={config.params} do not fit {config.name}: {problem}.") from error
    if config.stem == "small":
        _shrink_stem(model)
    return model


def _arguments(name: str, image_size: int) -> dict[str, Any]:
    if name in ("googlenet", "inception_v3"):
        return _INCEPTION_ARGUMENTS
    if name.startswith("vit_"):
        return {"image_size": image_size}
    if name == "maxvit_t":
        return {"input_size": (image_size, image_size)}
    return {}


def _shrink_stem(model: nn.Module) -> None:
    """Replace a ResNet's 7x7 first convolution by 3x3, stride 2: for images of a few dozen pixels."""
    old = model.conv1
    assert isinstance(old, nn.Conv2d)
    model.conv1 = nn.Conv2d(3, old.out_channels, kernel_size=3, stride=2, padding=1, bias=False)
    nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")  # as torchvision's ResNets do

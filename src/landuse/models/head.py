"""The classification head, what it is given, and training it alone on a frozen backbone."""

from torch import Tensor, nn

from landuse.errors import UserError


def find_head(model: nn.Module, num_classes: int) -> str | None:
    """Name of the last registered linear layer or 1x1 convolution (SqueezeNet) with ``num_classes`` outputs, if any."""
    name = None
    for candidate, module in model.named_modules():
        linear = isinstance(module, nn.Linear) and module.out_features == num_classes
        pointwise = (
            isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.out_channels == num_classes
        )
        if linear or pointwise:
            name = candidate
    return name


def features_of(given: object, logits: Tensor) -> Tensor:
    """What stands for N images where features are compared: rows (N, D) float32.

    Args:
        given: the last input of the head in one pass of the model. Maps (N, D, H, W) are averaged over space, anything
            else of N rows is flattened.
        logits: (N, C), what the model answered. Their log-probabilities are the features where ``given`` is not of N
            rows: of a model whose head is not known, or sees patches of the images.
    """
    if not isinstance(given, Tensor) or given.dim() < 2 or given.shape[0] != logits.shape[0]:
        return logits.float().log_softmax(dim=1)
    return given.float().mean(dim=(2, 3)) if given.dim() == 4 else given.float().flatten(1)


def freeze_backbone(model: nn.Module, num_classes: int) -> None:
    """Let only the head's parameters be trained. Put the model in training mode by :func:`set_train_mode`.

    Raises:
        UserError: the model has no recognisable head.
    """
    name = find_head(model, num_classes)
    if name is None:
        raise UserError(
            f"{type(model).__name__} has no linear layer or 1x1 convolution with {num_classes} outputs, so its head"
            " cannot be told from its backbone: set model.freeze_backbone=false."
        )
    model.requires_grad_(False)
    model.get_submodule(name).requires_grad_(True)


def set_train_mode(model: nn.Module) -> None:
    """``model.train()``, except that what is frozen stays in evaluation mode; for any model, frozen or not.

    In training mode a batch norm would go on updating its running statistics, although its parameters are frozen.
    """
    model.train()
    for module in model.modules():
        trainable = [parameter.requires_grad for parameter in module.parameters()]
        if trainable and not any(trainable):
            module.eval()

"""Smaller networks: channels or weights that matter least are taken out, and the rest is trained a little more."""

import copy
import logging
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.utils import prune

from landuse.config.schema import Config
from landuse.data.augment import image_sizes
from landuse.data.pack import Pack
from landuse.errors import UserError
from landuse.exporting.quiet import quiet
from landuse.models.head import find_head
from landuse.training.device import build_runtime
from landuse.training.loop import Trainer
from landuse.training.observer import Observers

log = logging.getLogger(__name__)

LR = 0.1  # of the run's own peak rate: the weights are near a minimum already
# onnxruntime's convolutions for AVX-512 take channels in blocks of this size. With 22 instead of 16 or 32 channels a
# slim_resnet ran at half the speed.
BLOCK = 16
MASK = "weight_mask"  # torch's name for what holds the weights of a layer at zero


def pruned(config: Config, model: nn.Module, pack: Pack) -> nn.Module:
    """A smaller network of the same classes, trained ``export.prune_epochs`` epochs more by the run's own recipe.

    ``export.prune=structured`` takes whole channels, by the norm of all weights that belong to them (Fang et al.,
    "DepGraph: towards any structural pruning", CVPR 2023): the network really becomes smaller. ``magnitude`` sets
    single weights to zero (Han et al. 2015), which makes it compress better, and no faster. The best epoch on the
    validation split is taken, as in any training.

    Args:
        config: of the run, under the present command line.
        model: stays as it is.

    Raises:
        UserError: the network cannot be pruned this way, or the training diverged.
    """
    smaller = copy.deepcopy(model).eval().requires_grad_(True)
    num_classes, export = len(pack.classes), config.export
    if export.prune == "structured":
        _take_channels(smaller, num_classes, pack.image_size, export.prune_amount)
    else:
        _mask_weights(smaller, num_classes, export.prune_amount)
    if export.prune_epochs > 0:
        smaller = _train(config, smaller, pack)
    for module in smaller.modules():
        if hasattr(module, MASK):
            prune.remove(module, "weight")  # type: ignore[no-untyped-call]
    return smaller.cpu().eval()


def num_nonzero(model: nn.Module) -> int:
    """How many values of all parameters are not zero."""
    return sum(int(parameter.count_nonzero()) for parameter in model.parameters())


def _take_channels(model: nn.Module, num_classes: int, image_size: int, amount: float) -> None:
    import torch_pruning

    cure = "use export.prune=magnitude, or leave pruned out of export.variants."
    name = find_head(model, num_classes)
    if name is None:
        raise UserError(f"This model has no recognisable head, whose outputs must stay: {cure}")
    attention = next((m for m in model.modules() if "attention" in type(m).__name__.lower()), None)
    if attention is not None:  # torch_pruning would fail on some and never end on others
        raise UserError(
            f"Channels of a network with attention ({type(attention).__name__}) cannot be taken out: {cure}"
        )
    head = model.get_submodule(name)
    shares: dict[nn.Module, float] = {}
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer is not head:
            channels = layer.out_channels if isinstance(layer, nn.Conv2d) else layer.out_features
            shares[layer] = _share_to_go(channels, amount)
    try:
        with quiet():
            torch_pruning.pruner.MetaPruner(
                model,
                torch.zeros(1, 3, image_size, image_size),
                importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
                pruning_ratio=amount,
                pruning_ratio_dict=shares,
                ignored_layers=[head],
            ).step()
        with torch.no_grad():
            logits = model(torch.zeros(2, 3, image_size, image_size))
    except Exception as error:  # its own, and those of layers that no longer fit together
        problem = str(error).strip().partition("\n")[0][:200]
        raise UserError(f"Channels of this network cannot be taken out ({problem}): {cure}") from error
    if logits.shape != (2, num_classes):
        raise UserError(f"Channels of this network cannot be taken out (it would give {tuple(logits.shape)}): {cure}")


def _share_to_go(channels: int, amount: float) -> float:
    """The share of a layer's channels near ``amount`` that leaves whole blocks, where there is one."""
    wanted = channels * (1 - amount)
    kept = min(channels, BLOCK * round(wanted / BLOCK) or max(1, round(wanted)))
    return max(0.0, channels - kept - 0.5) / channels  # torch_pruning keeps int(channels * (1 - share))


def _mask_weights(model: nn.Module, num_classes: int, amount: float) -> None:
    """Hold the smallest weights at zero, over all layers but the head."""
    head = find_head(model, num_classes)
    layers = [
        (module, "weight")
        for name, module in model.named_modules()
        if type(module) in (nn.Conv2d, nn.Linear) and name != head  # their heirs may be used without being called
    ]
    if not layers:
        raise UserError("This model has no layers to prune but its head: leave pruned out of export.variants.")
    prune.global_unstructured(layers, prune.L1Unstructured, amount=amount)
    for layer, _ in layers:  # an average copies the layers, and torch copies nothing that autograd has made
        layer.weight = layer.weight.detach()


def _train(config: Config, model: nn.Module, pack: Pack) -> nn.Module:
    config = _recipe(config)
    smallest = min(image_sizes(config.augment, pack.image_size))
    runtime = build_runtime(config.trainer.device, config.hardware, model, config.trainer.deterministic, smallest)
    observers = Observers()
    observers.add(_Progress(config.trainer.epochs))
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(config, runtime.place(model), pack, runtime, Path(folder), observers)
        trainer.fit()
        return trainer.load_best()


def _recipe(config: Config) -> Config:
    """The run's own, shorter and with smaller steps, at the full image size and on all images."""
    config = copy.deepcopy(config)
    trainer, epochs = config.trainer, config.export.prune_epochs
    share = epochs / trainer.epochs
    trainer.warmup_epochs *= min(1.0, share)
    trainer.decay_epochs = max(1, round(trainer.decay_epochs * share))
    trainer.epochs, trainer.lr = epochs, LR * trainer.lr
    trainer.monitor = "val/accuracy"  # what the variant is judged by
    trainer.early_stopping = trainer.overfit_batches = None
    trainer.limit_train_batches = trainer.limit_val_batches = None
    trainer.checkpoint_steps = trainer.checkpoint_minutes = None
    trainer.profile = False
    config.augment.start_size = None
    config.augment.mixup = config.augment.cutmix = 0.0  # which pays in long trainings alone
    config.hardware.compile = False  # takes longer than these epochs
    return config


class _Progress:
    """Says how each epoch went."""

    def __init__(self, num_epochs: int) -> None:
        self._num_epochs = num_epochs

    def step(self, epoch: int, step: int, num_steps: int, num_images: int) -> None:
        """Nothing."""

    def epoch(self, record: dict[str, Any]) -> None:
        log.info(
            "pruned, epoch %d of %d: train loss %.4f, val accuracy %.4f",
            record["epoch"] + 1, self._num_epochs, record["train/loss"], record["val/accuracy"],
        )  # fmt: skip

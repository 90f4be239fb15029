"""What can be said about a model without building it (no torch), so that a configuration is refused before any work."""

import difflib
from collections.abc import Iterator
from pathlib import Path

from landuse.config.schema import CNNConfig, CustomModelConfig, ModelConfig, SlimResNetConfig, TorchvisionConfig
from landuse.models.names import TORCHVISION_CLASSIFIERS

DEFAULT = "DEFAULT"  # the value of model.weights that means torchvision's own weights

MAX_WIDTH = 4096  # channels of a first block or stage
MAX_CNN_DEPTH = 12  # halves the largest image accepted, 4096 pixels, to a single one
MAX_KERNEL_SIZE = 31
MAX_STAGES, MAX_BLOCKS = 6, 64  # of slim_resnet; each stage doubles the channels


def smallest_image(config: CNNConfig) -> int:
    """Side in pixels of the smallest square image that the CNN takes: each block halves it."""
    return int(2**config.depth)


def has_large_stem(name: str) -> bool:
    """Whether this torchvision classifier begins with the 7x7 convolution that ``stem=small`` replaces."""
    return name.startswith(("resnet", "resnext", "wide_resnet"))


def model_problems(config: ModelConfig, image_size: int) -> Iterator[str]:
    """Every rule that the configuration breaks, as a sentence or two with cause and cure.

    Args:
        config: the architecture, and where its initial weights come from.
        image_size: side in pixels of the images that the model is given.
    """
    yield from _name(config)
    yield from architecture_problems(config, image_size)
    yield from _weights(config)


def architecture_problems(config: ModelConfig, image_size: int) -> Iterator[str]:
    """As :func:`model_problems`, whatever the initial weights are."""
    if isinstance(config, CNNConfig):
        yield from _cnn(config, image_size)
    if isinstance(config, SlimResNetConfig):
        yield from _slim_resnet(config)
    if isinstance(config, TorchvisionConfig):
        yield from _torchvision(config, image_size)
    if isinstance(config, CustomModelConfig) and not _is_import_path(config.target or ""):
        yield (
            f"model.target={config.target}: model=custom needs the import path of your nn.Module, such as"
            " model.target=my_package.nets.MyNet."
        )


def _name(config: ModelConfig) -> Iterator[str]:
    """A name that says something else than what is built would mislead whoever reads the run's files."""
    if not isinstance(config, CNNConfig | SlimResNetConfig) or config.name == config.kind:
        return
    if config.name in (*TORCHVISION_CLASSIFIERS, "cnn", "slim_resnet"):
        yield f"model.name={config.name} would only give the {config.kind} another name: write model={config.name}."
    else:
        yield (
            f"model.name={config.name}: this model is always called {config.kind}; leave model.name out, and tell runs"
            " apart by experiment_name=NAME."
        )


def _is_import_path(target: str) -> bool:
    return "." in target and all(part.isidentifier() for part in target.split("."))


def _cnn(config: CNNConfig, image_size: int) -> Iterator[str]:
    if not 1 <= config.width <= MAX_WIDTH:
        yield f"model.width={config.width}: must lie between 1 and {MAX_WIDTH} channels."
    if not 1 <= config.kernel_size <= MAX_KERNEL_SIZE or config.kernel_size % 2 == 0:
        yield f"model.kernel_size={config.kernel_size}: must be odd and at most {MAX_KERNEL_SIZE}, such as 3."
    if not 0 <= config.dropout < 1:
        yield f"model.dropout={config.dropout}: must lie in [0, 1)."
    if not 1 <= config.depth <= MAX_CNN_DEPTH:
        yield f"model.depth={config.depth}: must lie between 1 and {MAX_CNN_DEPTH} blocks."
    elif image_size < smallest_image(config):
        yield (
            f"model.depth={config.depth} halves the image {config.depth} times and needs at least"
            f" {smallest_image(config)} pixels, but images have {image_size}: use"
            f" model.depth={image_size.bit_length() - 1} or a larger data.image_size."
        )


def _slim_resnet(config: SlimResNetConfig) -> Iterator[str]:
    if not 1 <= config.width <= MAX_WIDTH:
        yield f"model.width={config.width}: must lie between 1 and {MAX_WIDTH} channels."
    if not (1 <= len(config.blocks) <= MAX_STAGES and all(1 <= n <= MAX_BLOCKS for n in config.blocks)):
        yield (
            f"model.blocks={list(config.blocks)}: needs 1 to {MAX_STAGES} stages of 1 to {MAX_BLOCKS} blocks each, such"
            " as [2,2,2,2]."
        )
    elif config.width * 2 ** (len(config.blocks) - 1) > MAX_WIDTH:
        yield (
            f"model.width={config.width} doubled by each of {len(config.blocks)} stages exceeds {MAX_WIDTH} channels:"
            " lower it, or use fewer stages."
        )


def _torchvision(config: TorchvisionConfig, image_size: int) -> Iterator[str]:
    if config.name not in TORCHVISION_CLASSIFIERS:
        yield _unknown_name(config.name)
        return
    if config.stem == "small" and not has_large_stem(config.name):
        yield (
            f"model.stem=small replaces the 7x7 first convolution of ResNets, which {config.name} does not have: use"
            " model.stem=standard or a ResNet."
        )
    step = _size_step(config.name)
    if image_size % step:
        below = image_size // step * step
        valid = f"{below} or {below + step}" if below else str(step)
        yield f"{config.name} takes images whose side is a multiple of {step} pixels, not {image_size}: use {valid}."


def _unknown_name(name: str) -> str:
    nearest = difflib.get_close_matches(name.lower(), TORCHVISION_CLASSIFIERS, n=3, cutoff=0.5)
    problem = f"model.name={name} is not a classifier of torchvision"
    if nearest:
        return f"{problem}: did you mean {' or '.join(nearest)}?"
    return f"{problem}: choose one of {', '.join(TORCHVISION_CLASSIFIERS)}."


def _size_step(name: str) -> int:
    """The number of pixels that the side of an image must be a multiple of."""
    if name.startswith("vit_"):
        return int(name.rpartition("_")[2])  # the patch size
    if name == "maxvit_t":
        return 224  # five halvings, after each of which windows of 7 x 7 must tile the image
    return 1


def _weights(config: ModelConfig) -> Iterator[str]:
    if config.weights == DEFAULT:
        if not isinstance(config, TorchvisionConfig):
            yield f"model.weights=DEFAULT: only torchvision's models have such weights; give {config.name} a file."
    elif config.weights is not None and not Path(config.weights).expanduser().exists():
        yield no_such_weights(config.weights)
    if config.freeze_backbone and config.weights is None:
        yield "model.freeze_backbone=true keeps random features: give model.weights=DEFAULT or a file as well."


def no_such_weights(path: str | Path) -> str:
    """What to tell a user whose ``model.weights`` does not exist."""
    return f"model.weights={path}: no such file. Give a .safetensors, .pt or .pth file, a run folder, or DEFAULT."

"""The variants of a model: each built, compared with PyTorch and judged on the validation split."""

import logging
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from landuse.config.ground import Ground
from landuse.config.schema import Config
from landuse.data.augment import normalise
from landuse.data.pack import Pack
from landuse.errors import FailureError, UserError
from landuse.evaluation.metrics import summarise
from landuse.exporting.data import noise
from landuse.exporting.graph import ServedNetwork, write_graph
from landuse.exporting.int8 import quantise
from landuse.exporting.temperature import fit_temperature, softmax
from landuse.files import is_own
from landuse.models.export import LoadedModel
from landuse.monitoring import REFERENCE_FILE, reference
from landuse.serving.artifact import MODEL_FILE, SAMPLES, describe
from landuse.serving.engine import Answers, Engine

log = logging.getLogger(__name__)

LARGEST_BATCH = 33  # images; odd sizes too, because the graph has to take any
TORCH_BATCH = 32
MOST_SAMPLES = 8


@dataclass(frozen=True)
class Source:
    """What all variants are made of.

    Attributes:
        run: the run folder.
        pack: its data; None where they are not at hand.
        num_threads: of onnxruntime.
        ground: what the images show that the model learned from.
    """

    run: Path
    config: Config
    model: LoadedModel
    pack: Pack | None
    num_threads: int
    ground: Ground

    @cached_property
    def images(self) -> NDArray[np.uint8]:
        """What PyTorch and the graphs are compared on: the validation split, or noise where there are no data."""
        return noise(self.model.image_size) if self.pack is None else self.pack.split("val").images

    @cached_property
    def labels(self) -> NDArray[np.int64] | None:
        """Of the images; noise has none."""
        return None if self.pack is None else self.pack.split("val").labels

    @cached_property
    def logits(self) -> NDArray[np.float64]:
        """Of the run's own model in PyTorch, on the images."""
        return torch_logits(self.model, self.model.model, self.images)

    @cached_property
    def torch_accuracy(self) -> float | None:
        """Of the run's own model in PyTorch, on the images."""
        return None if self.labels is None else float((self.logits.argmax(axis=1) == self.labels).mean())


@dataclass
class Variant:
    """An exported folder, which is given its final name once the variant was accepted.

    Attributes:
        num_parameters: that are not zero.
        probabilities: of the source's images, as the graph gives them.
        val_accuracy: None without data.
        facts: for ``onnx.json``.
        problem: why it is refused; None: it is not.
        is_written: whether it has its final name.
    """

    name: str
    folder: Path
    temperature: float
    num_parameters: int
    probabilities: NDArray[np.float32] | None = None
    val_accuracy: float | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    problem: str | None = None
    is_written: bool = False


def float_variant(source: Source, name: str, model: nn.Module, num_parameters: int, folder: Path) -> Variant:
    """The graph of a network in fp32, calibrated, in an empty folder.

    Args:
        model: normalised images to logits, in evaluation mode; the run's own, or what was made of it.

    Raises:
        FailureError: the graph does not answer as PyTorch does.
        UserError: the network cannot be exported, or gives no numbers.
    """
    images, labels = source.images, source.labels
    logits = source.logits if model is source.model.model else torch_logits(source.model, model, images)
    temperature = 1.0 if labels is None else fit_temperature(logits, labels)
    variant = Variant(name, folder, temperature, num_parameters)
    network = ServedNetwork(model, len(source.model.classes), source.model.mean, source.model.std, temperature)
    write_graph(network, source.model.image_size, folder / MODEL_FILE)
    if labels is not None:
        before = summarise(softmax(logits, 1.0), labels, source.model.classes)
        variant.facts["val_ece_uncalibrated"] = before["ece"]
    answers = _complete(source, variant)
    difference = float(np.abs(softmax(logits, temperature) - answers.probabilities).max())
    largest, what = source.config.export.max_difference, "random images" if labels is None else "validation images"
    log.info("%s: differs from PyTorch by %.1e at most, on %d %s", name, difference, len(images), what)
    if not difference <= largest:
        raise FailureError(
            f"{name}: a probability differs by {difference:.3g} between PyTorch and ONNX, on {len(images)} {what}, and "
            f"export.max_difference={largest:g}: the graph is not the model, and was not kept."
        )
    variant.facts |= {"max_difference": difference, "compared_on": f"{len(images)} {what}"}
    return variant


def int8_variant(source: Source, name: str, base: Variant, folder: Path) -> Variant:
    """The graph of ``base`` in 8-bit integers, in an empty folder.

    Raises:
        UserError: there are no images for the ranges of the integers, or onnxruntime cannot quantise the graph.
    """
    if source.pack is None:
        raise UserError(
            f"{name} takes the ranges of its integers from training images, and the run's data are not below data.home="
            f"{source.config.data.home}: give the right data.home, or leave out export.measure=false."
        )
    train = source.pack.split("train")
    images = train.images[: source.config.export.calibration_images]  # any prefix is a balanced sample
    try:
        quantise(base.folder / MODEL_FILE, images, folder / MODEL_FILE)
    except (MemoryError, OSError):
        raise
    except Exception as error:  # onnxruntime's tools have none of their own
        problem = str(error).strip().partition("\n")[0][:200]
        raise UserError(
            f"onnxruntime cannot quantise this graph ({problem}): leave {name} out of export.variants."
        ) from error
    variant = Variant(name, folder, base.temperature, base.num_parameters)
    answers = _complete(source, variant)
    assert base.probabilities is not None
    difference = float(np.abs(base.probabilities - answers.probabilities).max())
    variant.facts |= {"max_difference": difference, "calibrated_on": f"{len(images)} training images"}
    return variant


def judge(source: Source, variant: Variant) -> None:
    """Say how a variant does on the validation split, refuse it if it does badly, and complete its description."""
    accuracy = source.torch_accuracy
    if accuracy is not None and variant.val_accuracy is not None:
        loss, largest = accuracy - variant.val_accuracy, source.config.export.max_accuracy_loss
        facts = variant.facts | {"torch_val_accuracy": accuracy}
        log.info(
            "%s: val accuracy %.4f (PyTorch %.4f), temperature %.3f, calibration error %s%.4f",
            variant.name, variant.val_accuracy, accuracy, variant.temperature,
            f"{facts['val_ece_uncalibrated']:.4f} -> " if "val_ece_uncalibrated" in facts else "", facts["val_ece"],
        )  # fmt: skip
        variant.facts = facts
        if loss > largest + 1e-9:
            variant.problem = (
                f"{variant.name} has a validation accuracy of {variant.val_accuracy:.4f}, which is {loss:.4f} below "
                f"PyTorch's {accuracy:.4f}, and export.max_accuracy_loss={largest:g}"
            )
            variant.facts["refused"] = variant.problem
    _describe(source, variant)


def torch_logits(loaded: LoadedModel, model: nn.Module, images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Logits (N, C) of images (N, S, S, 3) in PyTorch, on the CPU in fp32, normalised as in training and evaluation.

    Raises:
        UserError: they are not finite.
    """
    mean, std = torch.tensor(loaded.mean), torch.tensor(loaded.std)
    batches = range(0, len(images), TORCH_BATCH)
    with torch.inference_mode():
        parts = [
            model(normalise(torch.from_numpy(np.array(images[start : start + TORCH_BATCH])), mean, std)).double()
            for start in batches
        ]  # fmt: skip
    logits: NDArray[np.float64] = torch.cat(parts).numpy()
    if not np.isfinite(logits).all():
        raise UserError(
            "The model gives what are no numbers: its weights or its normalisation are damaged. Train again."
        )
    return logits


def answers_of(engine: Engine, images: NDArray[np.uint8]) -> Answers:
    """What an exported model says of N images, in batches of 1, 2 and then 33."""
    parts = [engine(np.ascontiguousarray(images[start:stop])) for start, stop in _batches(len(images))]
    return Answers(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def _batches(num_images: int) -> Iterator[tuple[int, int]]:
    edges = [edge for edge in (0, 1, *range(3, num_images, LARGEST_BATCH)) if edge < num_images]
    yield from zip(edges, [*edges[1:], num_images], strict=True)


def _complete(source: Source, variant: Variant) -> Answers:
    """Let a graph that is there answer, and put beside it what belongs to it."""
    _describe(source, variant)
    engine = Engine(variant.folder, source.num_threads, LARGEST_BATCH)
    images, labels = source.images, source.labels
    answers = answers_of(engine, images)
    variant.probabilities = answers.probabilities
    if labels is None:
        trained = source.run / "model" / REFERENCE_FILE  # of the same network, as training left it
        if is_own(trained, source.run, reference.LARGEST_FILE):
            shutil.copyfile(trained, variant.folder / REFERENCE_FILE)
        return answers
    summary = summarise(answers.probabilities, labels, source.model.classes)
    variant.val_accuracy = summary["accuracy"]
    variant.facts |= {"num_val_images": len(images), "val_accuracy": summary["accuracy"], "val_ece": summary["ece"]}
    seen = reference.make_reference(images, answers.probabilities, answers.features)
    reference.save(variant.folder / REFERENCE_FILE, seen)
    _write_samples(variant.folder / SAMPLES, images, labels, source)
    return answers


def _write_samples(folder: Path, images: NDArray[np.uint8], labels: NDArray[np.int64], source: Source) -> None:
    """One image each of up to eight classes, drawn with the run's seed."""
    folder.mkdir()
    draws = np.random.default_rng(source.config.seed)
    for number in draws.permutation(np.unique(labels))[:MOST_SAMPLES]:
        row = draws.choice(np.flatnonzero(labels == number))
        # A class may be named in ways that no file can be; of two that would be alike, the later stays.
        name = re.sub(r"[^\w.-]+", "_", source.model.classes[number]).lstrip(".")[:80] or "class"
        Image.fromarray(np.asarray(images[row])).save(folder / f"{name}.png")


def _describe(source: Source, variant: Variant) -> None:
    model, value_range = source.model, source.config.data.quality.value_range
    extra = model.info["extra"]
    describe(
        variant.folder,
        {
            "variant": variant.name,
            "classes": list(model.classes),
            "image_size": model.image_size,
            "temperature": variant.temperature,
            "value_range": None if value_range is None else list(value_range),
            "source": {
                "run": source.run.name,
                "weights_sha256": model.info["weights_sha256"],
                "architecture": model.info["architecture"],
                "num_parameters": variant.num_parameters,
                "data": extra.get("data"),
                "data_fingerprint": extra.get("data_fingerprint"),
                "split_fingerprint": extra.get("split_fingerprint"),
                "gsd": source.ground.gsd,
                "tile_size": source.ground.tile_size,
            },
            "facts": variant.facts,
        },
    )

"""The variants that were written beside PyTorch: on the same test images, and by the clock in turn."""

from collections.abc import Sequence
from dataclasses import replace

import onnxruntime
import torch

from landuse.evaluation.metrics import summarise
from landuse.evaluation.report.check import EXPORTED, open_test
from landuse.exporting import speed, table
from landuse.exporting.graph import ServedNetwork
from landuse.exporting.table import Row
from landuse.exporting.temperature import softmax
from landuse.exporting.variants import Source, Variant, answers_of, torch_logits
from landuse.exports import EXPORT
from landuse.models.description import WEIGHTS_FILE
from landuse.serving.artifact import MODEL_FILE
from landuse.serving.engine import Engine
from landuse.training.device import device_name

EAGER, COMPILED = "PyTorch", "PyTorch, compiled"


def compare(source: Source, variants: Sequence[Variant]) -> str:
    """Measure, write ``export.json`` and ``export.md`` beside the variants, and return the table as text.

    The test split is opened here, after the validation split has decided what is kept.

    Args:
        variants: those that were refused keep their row, without test accuracy and speed.
    """
    engines = {
        variant.name: Engine(variant.folder, source.num_threads, speed.BATCH)
        for variant in variants
        if variant.is_written
    }
    rows = [_torch_row(source), *(_row(source, variant, engines.get(variant.name)) for variant in variants)]
    model = source.model
    network = ServedNetwork(model.model, len(model.classes), model.mean, model.std)
    run, note = speed.compiled(network, model.image_size)
    runs: dict[str, speed.Run] = {EAGER: speed.in_torch(network), **engines}
    speeds = speed.measure(runs | ({} if run is None else {COMPILED: run}), model.image_size)
    rows = [replace(row, speed=speeds.get(row.name)) for row in rows]
    rows.insert(1, replace(rows[0], name=COMPILED, test=None, val_accuracy=None, speed=speeds.get(COMPILED), note=note))
    return table.write(source.run / EXPORT, rows, _facts(source))


def _torch_row(source: Source) -> Row:
    """The run's model as it was trained, in fp32 and uncalibrated."""
    assert source.pack is not None
    model, test = source.model, source.pack.split("test")
    _open_test(source, EAGER, model.info["weights_sha256"])
    probabilities = softmax(torch_logits(model, model.model, test.images), 1.0)
    return Row(
        EAGER,
        *table.sizes(source.run / "model" / WEIGHTS_FILE),
        num_parameters=model.info["num_parameters"],
        val_accuracy=source.torch_accuracy,
        test=summarise(probabilities, test.labels, model.classes),
        note="not calibrated",
    )


def _row(source: Source, variant: Variant, engine: Engine | None) -> Row:
    if engine is None:
        return Row(variant.name, None, None, variant.num_parameters, variant.val_accuracy, note="refused, not written")
    assert source.pack is not None
    test = source.pack.split("test")
    _open_test(source, variant.name, engine.model.onnx_sha256)
    return Row(
        variant.name,
        *table.sizes(variant.folder / MODEL_FILE),
        num_parameters=variant.num_parameters,
        val_accuracy=variant.val_accuracy,
        test=summarise(answers_of(engine, test.images).probabilities, test.labels, source.model.classes),
        note="loses more than allowed" if variant.problem else "",
    )


def _open_test(source: Source, name: str, fingerprint: str) -> None:
    """Note it in the run's ledger. `report check` objects where a variant was made in several ways and each tested."""
    assert source.pack is not None
    open_test(source.run, {
        "split": "test",
        "split_fingerprint": source.pack.split_fingerprint,
        "precision": f"{EXPORTED}{name}",
        "model_fingerprint": fingerprint,
        "test_time_augmentation": False,
        "image_size": source.model.image_size,
    })  # fmt: skip


def _facts(source: Source) -> dict[str, object]:
    assert source.pack is not None
    return {
        "run": source.run.name,
        "weights_sha256": source.model.info["weights_sha256"],
        "data": source.pack.name,
        "split_fingerprint": source.pack.split_fingerprint,
        "num_test_images": source.pack.num_images["test"],
        "image_size": source.model.image_size,
        "machine": device_name(torch.device("cpu")),
        "num_threads": source.num_threads,
        "torch": torch.__version__,
        "onnxruntime": onnxruntime.__version__,
    }

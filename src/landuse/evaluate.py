"""python -m landuse.evaluate: open the test split, measure the exported model, write figures and report."""

import dataclasses
import logging
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from landuse import runs
from landuse.cli import Invocation, leave, run_command
from landuse.config.schema import Config
from landuse.config.validate import validate
from landuse.errors import UserError
from landuse.files import write_json
from landuse.tracking import logs
from landuse.tracking.artifacts import is_fetched
from landuse.tracking.mirror import send
from landuse.trained import configuration, open_model, require_same_classes

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from landuse.data.pack import Pack, PackedSplit
    from landuse.evaluation.predictions import Predictions
    from landuse.models.export import LoadedModel

log = logging.getLogger(__name__)


def evaluate(config: Config, call: Invocation) -> dict[str, Any]:
    """Evaluate ``run=`` (by default the newest run) on the split ``evaluation.split``.

    Data, hardware and batch size are those of the run, unless the command line says otherwise.

    Returns:
        The content of ``<run>/evaluation.json`` (``evaluation-val.json`` for the validation split).

    Raises:
        UserError: no such run, no finished model in it, or data of other classes.
    """
    logs.to_stderr(config.log)
    folder = runs.find(config.run, Path(config.outputs), config.tracking.timeout_s)
    config = configuration(folder, call)
    runs.require_own_figures(folder)
    validate(config)
    logs.to_file(folder / "evaluate.log")

    from landuse.data.pack import prepare

    model = open_model(folder, config, call)
    if config.data.image_size != model.image_size:
        log.warning("data.image_size=%d, but the model was made at %d px", config.data.image_size, model.image_size)
    pack = prepare(config.data)
    require_same_classes(model.classes, pack.classes)
    return _measure(config, pack, model, folder)


def _measure(config: Config, pack: "Pack", model: "LoadedModel", folder: Path) -> dict[str, Any]:
    from landuse.evaluation.metrics import summarise
    from landuse.evaluation.predictions import Predictions
    from landuse.models.description import model_fingerprint
    from landuse.training.batches import Images
    from landuse.training.device import build_runtime
    from landuse.training.inference import Predictor

    runtime = build_runtime(config.trainer.device, config.hardware, model.model, config.trainer.deterministic)
    split = pack.split(config.evaluation.split)
    batch_size = config.evaluation.batch_size or config.trainer.batch_size
    predictor = Predictor(runtime, model.mean, model.std, batch_size, config.evaluation.symmetries)
    placed, images = runtime.place(model.model), Images(split, runtime)
    started = time.perf_counter()
    probabilities = predictor.probabilities(placed, images)
    seconds = time.perf_counter() - started
    if not all(math.isfinite(total) for total in probabilities.sum(axis=1)):
        raise UserError(
            f"{folder / 'model'} gives predictions that are not finite: its weights or its normalisation are damaged or"
            " made to mislead. Copy the run folder again, or train again."
        )
    predictions = Predictions(split.paths, split.labels, probabilities, pack.classes)
    result: dict[str, Any] = {
        **summarise(probabilities, split.labels, pack.classes),
        "split": split.name,
        "test_time_augmentation": config.evaluation.symmetries,
        "data": pack.name,
        "image_size": pack.image_size,
        "data_fingerprint": pack.data_fingerprint,
        "split_fingerprint": pack.split_fingerprint,
        "model_fingerprint": model_fingerprint(folder / "model"),
        "device": str(runtime.device),
        "precision": runtime.precision,
        "batch_size": batch_size,
        "seconds": seconds,
        "images_per_second": len(split) / seconds,
    }
    suffix = _suffix(config, pack, split, model)

    def predict(others: "NDArray[np.uint8]") -> "NDArray[np.float64]":
        labels = split.labels[: len(others)]  # which nobody looks at
        return predictor.probabilities(
            placed, Images(dataclasses.replace(split, images=others, labels=labels), runtime)
        )

    try:
        _write(result, split, predictions, folder, suffix)
        if config.evaluation.robustness:
            _measure_robustness(result, split, predict, folder, suffix)
    except OSError as error:
        raise UserError(
            f"{folder} could not take all results ({error.strerror or error}): its files may be of this and of an"
            " earlier evaluation. Make room, or copy the run to another place, and evaluate again."
        ) from error
    if config.tracking.mode != "off" and is_fetched(folder):
        log.warning("not sent to W&B: %s was fetched from there", folder)
    elif config.tracking.mode != "off":
        send(config, folder)
    return result


def _write(result: dict[str, Any], split: "PackedSplit", predictions: "Predictions", folder: Path, suffix: str) -> None:
    from landuse.evaluation.predictions import write_csv
    from landuse.evaluation.report import report_run
    from landuse.evaluation.report.check import open_test

    open_test(folder, result)
    write_csv(folder / f"predictions{suffix}.csv", predictions)
    write_json(folder / f"evaluation{suffix}.json", result)
    if not suffix:
        scores = {key: result[key] for key in ("num_images", "accuracy", "macro_f1", "loss", "ece")}
        write_json(folder / "scores.json", scores)  # for `dvc metrics`: few numbers, and no times
        _draw(result, split, predictions, folder / "figures")
    page = report_run(folder)
    low, high = result["accuracy_ci95"]
    log.info(
        "%s: accuracy %.4f (95 %% interval %.4f to %.4f), macro F1 %.4f, calibration error %.4f, %d images",
        result["split"], result["accuracy"], low, high, result["macro_f1"], result["ece"], result["num_images"],
    )  # fmt: skip
    log.info("result      %s", folder / f"evaluation{suffix}.json")
    log.info("report      %s", page)


def _measure_robustness(
    result: dict[str, Any],
    split: "PackedSplit",
    predict: "Callable[[NDArray[np.uint8]], NDArray[np.float64]]",
    folder: Path,
    suffix: str,
) -> None:
    from landuse.evaluation import figures
    from landuse.evaluation.report import report_run
    from landuse.evaluation.robustness import NUM_PASSES, measure

    log.info("robustness  about %.0f s, at the speed of the evaluation", NUM_PASSES * result["seconds"])
    measured = measure(split.images, split.labels, result["accuracy"], predict)
    of = ("split", "test_time_augmentation", "image_size", "data_fingerprint", "split_fingerprint", "model_fingerprint")
    write_json(folder / f"robustness{suffix}.json", {**measured, **{key: result[key] for key in of}})
    if not suffix:
        figures.robustness(measured, folder / "figures" / "robustness.png")
    report_run(folder)
    log.info("robustness  %s", folder / f"robustness{suffix}.json")


def _suffix(config: Config, pack: "Pack", split: "PackedSplit", model: "LoadedModel") -> str:
    """What the file names carry; nothing for all test images of the run's own split, the result that counts."""
    parts = [] if split.name == "test" else [split.name]
    if pack.split_fingerprint != model.info["extra"].get("split_fingerprint"):
        log.warning("These images are not split as the run's were: the model may have been trained on some of them.")
        parts += [pack.name, pack.split_fingerprint[:8]]
    if config.data.max_images is not None:
        parts.append(f"{config.data.max_images}-images")
    if pack.image_size != model.image_size:
        parts.append(f"{pack.image_size}px")
    return "".join(f"-{part}" for part in parts)


def _draw(result: dict[str, Any], split: "PackedSplit", predictions: "Predictions", folder: Path) -> None:
    from landuse.evaluation import figures

    figures.confusion(result["confusion_matrix"], result["classes"], folder / "confusion.png")
    figures.reliability(result["reliability"], result["ece"], folder / "reliability.png")
    figures.per_class(result["per_class"], folder / "per_class.png")
    rows = predictions.most_confident_mistakes(figures.MAX_MISTAKES)
    figures.mistakes(
        split.images[rows],
        [predictions.classes[i] for i in predictions.labels[rows]],
        [predictions.classes[i] for i in predictions.predicted[rows]],
        predictions.confidence[rows].tolist(),
        folder / "mistakes.png",
    )


def main() -> None:
    """Entry point of landuse-evaluate."""
    run_command("evaluate", evaluate)


if __name__ == "__main__":
    main()
    leave()

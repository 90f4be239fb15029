"""python -m landuse.evaluate: open the test split, measure the exported model, write figures and report."""

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from landuse import runs
from landuse.cli import Invocation, run_command
from landuse.config import compose
from landuse.config.schema import Config, CustomModelConfig
from landuse.config.validate import validate
from landuse.errors import UserError
from landuse.files import write_json
from landuse.tracking import logs

if TYPE_CHECKING:
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
        UserError: no such run, no exported model in it, or data of other classes.
    """
    folder = runs.find(config.run, Path(config.outputs))
    config = _configuration(runs.read_config(folder), call)
    validate(config)
    logs.to_stderr()
    logs.to_file(folder / "evaluate.log")

    from landuse.data.pack import prepare
    from landuse.models.export import load_model

    model = load_model(folder / "model", _custom_model(config, call))
    described = model.info["architecture"]["name"]
    if call.names("model") and config.model.name != described:
        raise UserError(
            f"model={config.model.name}, but {folder} holds a {described}: give another run= or drop model=."
        )
    if not call.names("data.image_size"):
        config.data.image_size = model.image_size
    elif config.data.image_size != model.image_size:
        log.warning("data.image_size=%d, but the model was made at %d px", config.data.image_size, model.image_size)
    pack = prepare(config.data)
    if list(model.classes) != pack.classes:
        raise UserError(
            f"The model knows the classes {', '.join(model.classes)}, but the data has {', '.join(pack.classes)}: "
            "evaluate on data of the same classes."
        )
    result = _measure(config, pack, model, folder)
    _show(result, folder)
    return result


def _configuration(run_tree: dict[str, Any], call: Invocation) -> Config:
    """The run's configuration under this command line, without what only a training asks."""
    config = compose.overlay(run_tree, call.composed, call.overrides)
    config.trainer.resume = "never"
    config.model.weights, config.model.freeze_backbone = None, False
    if not call.names("data.max_images"):
        config.data.max_images = None
    return config


def _custom_model(config: Config, call: Invocation) -> CustomModelConfig | None:
    """The user's own class, only when this command line names it; what a run folder names is never imported."""
    named = call.names("model.target")
    return config.model if named and isinstance(config.model, CustomModelConfig) else None


def _measure(config: Config, pack: "Pack", model: "LoadedModel", folder: Path) -> dict[str, Any]:
    from landuse.evaluation.metrics import summarise
    from landuse.evaluation.predictions import Predictions, write_csv
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
    predictions = Predictions(split.paths, split.labels, probabilities, pack.classes)
    suffix = _suffix(pack, split, model)
    write_csv(folder / f"predictions{suffix}.csv", predictions)
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
    write_json(folder / f"evaluation{suffix}.json", result)
    if not suffix:
        scores = {key: result[key] for key in ("num_images", "accuracy", "macro_f1", "loss", "ece")}
        write_json(folder / "scores.json", scores)  # for `dvc metrics`: few numbers, and no times
        _draw(result, split, predictions, folder / "figures")
    return result


def _suffix(pack: "Pack", split: "PackedSplit", model: "LoadedModel") -> str:
    """What the file names carry; nothing for the test images of the run's own split, the result that counts."""
    suffix = "" if split.name == "test" else f"-{split.name}"
    if pack.split_fingerprint == model.info["extra"].get("split_fingerprint"):
        return suffix
    log.warning(
        "These images are not split as the run's were: the model may have been trained on some of them. The result "
        "goes into files of its own."
    )
    return f"{suffix}-{pack.name}-{pack.split_fingerprint[:8]}"


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


def _show(result: dict[str, Any], folder: Path) -> None:
    from landuse.evaluation.report import report_run

    low, high = result["accuracy_ci95"]
    log.info(
        "%s: accuracy %.4f (95 %% interval %.4f to %.4f), macro F1 %.4f, calibration error %.4f, %d images",
        result["split"], result["accuracy"], low, high, result["macro_f1"], result["ece"], result["num_images"],
    )  # fmt: skip
    log.info("report      %s", report_run(folder))


def main() -> None:
    """Entry point of landuse-evaluate."""
    run_command("evaluate", evaluate)


if __name__ == "__main__":
    main()

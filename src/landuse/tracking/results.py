"""What came of a run, as W&B shows it: summary, figures, predictions, confusion matrix, model.

A run folder may come from a stranger: only regular files that lie in it are read.
"""

import hashlib
import re
from pathlib import Path
from typing import Any

from landuse.config.schema import TrackingConfig
from landuse.evaluation.predictions import Predictions, read_csv
from landuse.files import is_own, read_mapping

SCORES = ("accuracy", "macro_f1", "loss", "ece", "num_images")
LARGEST = 50_000_000  # bytes of a figure or a table
LARGEST_MODEL = 20_000_000_000
MODEL = ("model/model.json", "model/model.safetensors")
# What a run folder needs besides, so that run=wandb:... is one.
BESIDES = ("model/README.md", "config.yaml", "metrics.jsonl", "provenance.json", "summary.json")
MOST_ROWS = 10_000  # of the table of predictions


class Results:
    """Sends what W&B does not have yet: each part leaves a mark in the run's summary once it is there."""

    def __init__(self, run: Any, folder: Path, tracking: TrackingConfig) -> None:
        """
        Args:
            run: a W&B run.
        """
        self._run, self._folder, self._tracking = run, folder, tracking
        self._marks: dict[str, str] = {}

    def copy(self) -> None:
        """Send summary, evaluations, figures and model, as far as there are any."""
        summary = self._read("summary.json")
        self._run.summary.update(summary)
        for path in sorted(self._folder.glob("evaluation*.json")):
            self._evaluation(path.stem.removeprefix("evaluation"))
        self._figures()
        if self._tracking.log_model and summary.get("status") == "completed":
            self._model(summary)
        self._run.summary.update(self._marks)

    def _read(self, name: str) -> dict[str, Any]:
        path = self._folder / name
        return read_mapping(path, LARGEST) if is_own(path, self._folder, LARGEST) else {}

    def _evaluation(self, suffix: str) -> None:
        name = suffix.removeprefix("-") or "test"
        result, predictions = self._read(f"evaluation{suffix}.json"), self._folder / f"predictions{suffix}.csv"
        if not result or not self._is_new(f"{name}/digest", [self._folder / f"evaluation{suffix}.json"]):
            return
        low, high = result.get("accuracy_ci95") or (None, None)
        scores = {key: result.get(key) for key in SCORES} | {"accuracy_low": low, "accuracy_high": high}
        self._run.summary.update({f"{name}/{key}": value for key, value in scores.items()})
        if is_own(predictions, self._folder, LARGEST):
            self._predictions(name, read_csv(predictions))

    def _predictions(self, name: str, predictions: Predictions) -> None:
        import wandb

        classes, predicted = predictions.classes, predictions.predicted
        rows = zip(predictions.paths, predictions.labels, predicted, predictions.confidence.tolist(), strict=True)
        shown = [[path, classes[label], classes[guess], p] for path, label, guess, p in rows]
        chart = wandb.plot.confusion_matrix(
            y_true=predictions.labels.tolist(), preds=predicted.tolist(), class_names=classes,
            title=f"Confusion matrix, {name}",
        )  # fmt: skip
        table = wandb.Table(["image", "label", "predicted", "confidence"], shown[:MOST_ROWS])
        self._run.log({f"{name}/confusion_matrix": chart, f"{name}/predictions": table})

    def _figures(self) -> None:
        import wandb

        found = sorted(self._folder.glob("figures/*.png"))
        figures = [path for path in found if is_own(path, self._folder, LARGEST)]
        if figures and self._is_new("figures/digest", figures):
            self._run.log({f"figures/{path.stem}": wandb.Image(str(path)) for path in figures})

    def _model(self, summary: dict[str, Any]) -> None:
        """The exported model as an artifact."""
        import wandb

        weights, besides = (
            [path for name in names if is_own(path := self._folder / name, self._folder, LARGEST_MODEL)]
            for names in (MODEL, BESIDES)
        )
        if len(weights) < len(MODEL) or not self._is_new("model/digest", weights):
            return
        config = self._run.config
        monitor = config["trainer"]["monitor"]
        about = {"monitor": monitor, "value": summary[monitor], "run": self._run.id}
        artifact = wandb.Artifact(artifact_name(config["experiment_name"]), type="model", metadata=about)
        for path in (*weights, *besides):
            artifact.add_file(str(path), name=path.relative_to(self._folder).as_posix())
        if self._tracking.mode == "online":
            aliases = ["latest", *(["best"] if self._is_best(artifact.name, about) else [])]
            self._run.log_artifact(artifact, aliases=aliases).wait(timeout=max(1, int(self._tracking.timeout_s)))
        else:  # which is the best, only W&B knows: a later sending tells, so there is no mark
            self._run.log_artifact(artifact, aliases=["latest"])
            del self._marks["model/digest"]

    def _is_best(self, name: str, about: dict[str, Any]) -> bool:
        """Whether it is better than what has this alias, or nothing has it."""
        import wandb

        name = f"{self._run.entity}/{self._run.project}/{name.partition(':')[0]}:best"
        api = wandb.Api(timeout=int(max(5, self._tracking.timeout_s / 3)))
        if not api.artifact_exists(name, type="model"):
            return True
        best = api.artifact(name, type="model").metadata
        if best.get("monitor") != about["monitor"]:  # not to be compared, so it stays where it is
            return False
        is_loss = about["monitor"].endswith("loss")
        return bool(about["value"] < best["value"] if is_loss else about["value"] > best["value"])

    def _is_new(self, mark: str, files: list[Path]) -> bool:
        """Whether W&B does not have these contents; the mark that says so is set when all has been sent."""
        digest = hashlib.sha256()
        for path in files:
            digest.update(path.name.encode() + b"\0")
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        self._marks[mark] = digest.hexdigest()
        return bool(self._run.summary.get(mark) != digest.hexdigest())


def artifact_name(experiment: str) -> str:
    """A name for W&B, which takes letters, digits, dashes, underscores and dots."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", experiment).strip("-") or "model"

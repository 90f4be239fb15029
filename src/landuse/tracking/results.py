"""What came of a run, as W&B shows it: summary, figures, predictions, confusion matrix, model."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from landuse.config.schema import TrackingConfig
from landuse.evaluation.predictions import Predictions, read_csv

SCORES = ("accuracy", "macro_f1", "loss", "ece", "num_images")
LARGEST = 50_000_000  # bytes of a file that is sent
MODEL_FILES = ("config.yaml", "metrics.jsonl", "provenance.json", "summary.json", "wandb.json")
MOST_ROWS = 10_000  # of the table of predictions


class Results:
    """Sends what W&B does not have yet: each part leaves a mark in the run's summary."""

    def __init__(self, run: Any, folder: Path, tracking: TrackingConfig) -> None:
        """
        Args:
            run: a W&B run.
        """
        self._run, self._folder, self._tracking = run, folder, tracking

    def copy(self) -> None:
        """Send summary, evaluations, figures and model, as far as there are any."""
        summary = _read(self._folder / "summary.json")
        self._run.summary.update(summary)
        for path in sorted(self._folder.glob("evaluation*.json")):
            self._evaluation(path)
        self._figures()
        if self._tracking.log_model and summary.get("status") == "completed":
            self._model(summary)

    def _evaluation(self, path: Path) -> None:

        result, suffix = _read(path), path.stem.removeprefix("evaluation")
        name = "test" if not suffix else suffix.removeprefix("-")
        if not self._is_new(f"{name}/digest", [path]):
            return
        scores = {f"{name}/{key}": result.get(key) for key in SCORES}
        low, high = result.get("accuracy_ci95") or (None, None)
        self._run.summary.update(scores | {f"{name}/accuracy_low": low, f"{name}/accuracy_high": high})
        path = self._folder / f"predictions{suffix}.csv"
        if path.is_file() and path.stat().st_size < LARGEST:
            self._predictions(name, read_csv(path))

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

        figures = [path for path in sorted(self._folder.glob("figures/*.png")) if path.stat().st_size < LARGEST]
        if figures and self._is_new("figures/digest", figures):
            self._run.log({f"figures/{path.stem}": wandb.Image(str(path)) for path in figures})

    def _model(self, summary: dict[str, Any]) -> None:
        """The exported model with what a run folder needs besides, so that ``run=wandb:...`` is one."""
        import wandb

        files = [*sorted(self._folder.glob("model/*")), *(self._folder / name for name in MODEL_FILES)]
        files = [path for path in files if path.is_file()]
        weights = [self._folder / "model" / name for name in ("model.json", "model.safetensors")]
        if not self._is_new("model/digest", [path for path in weights if path.is_file()]):  # the card changes
            return
        config = self._run.config
        monitor = config["trainer"]["monitor"]
        about = {"monitor": monitor, "value": summary[monitor], "run": self._run.id}
        artifact = wandb.Artifact(artifact_name(config["experiment_name"]), type="model", metadata=about)
        for path in files:
            artifact.add_file(str(path), name=str(path.relative_to(self._folder)))
        self._run.log_artifact(artifact, aliases=["latest", *(["best"] if self._is_best(artifact.name, about) else [])])

    def _is_best(self, name: str, about: dict[str, Any]) -> bool:
        """Whether no better one has this name. Offline nobody knows, and the alias is left to a later sending."""
        import wandb

        if self._tracking.mode != "online":
            return False
        name = f"{self._run.entity}/{self._run.project}/{name.partition(':')[0]}:best"
        api = wandb.Api(timeout=int(max(5, self._tracking.timeout_s / 3)))
        if not api.artifact_exists(name, type="model"):
            return True
        best = api.artifact(name, type="model").metadata
        if best.get("monitor") != about["monitor"]:
            return True
        is_loss = about["monitor"].endswith("loss")
        return bool(about["value"] <= best["value"] if is_loss else about["value"] >= best["value"])

    def _is_new(self, mark: str, files: list[Path]) -> bool:
        digest = hashlib.sha256()
        for path in files:
            digest.update(path.name.encode() + b"\0")
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        if self._run.summary.get(mark) == digest.hexdigest():
            return False
        self._run.summary[mark] = digest.hexdigest()
        return True


def artifact_name(experiment: str) -> str:
    """A name for W&B, which takes letters, digits, dashes, underscores and dots."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", experiment).strip("-") or "model"


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}

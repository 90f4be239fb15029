"""What came of a run, as W&B shows it: summary, figures, predictions, confusion matrix, model.

A run folder may come from a stranger: only regular files that lie in it are read.
"""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from landuse.addresses import without_passwords
from landuse.config.schema import TrackingConfig
from landuse.evaluation.predictions import Predictions, read_csv
from landuse.files import is_own, read_mapping, read_text, write_json
from landuse.tracking.mirror import IDENTITY

SCORES = ("accuracy", "macro_f1", "loss", "ece", "num_images")
LARGEST = 50_000_000  # bytes of a figure or a table
LARGEST_MODEL = 20_000_000_000
MODEL = ("model/model.json", "model/model.safetensors")
# What a run folder needs besides, so that run=wandb:... is one.
BESIDES = ("model/README.md", "config.yaml", "metrics.jsonl", "provenance.json", "summary.json")
LONGEST_NAME = 100  # characters
MOST_ROWS = 10_000  # of the table of predictions


class Results:
    """Sends what W&B does not have yet; ``wandb.json`` says what it has."""

    def __init__(self, run: Any, folder: Path, tracking: TrackingConfig) -> None:
        """
        Args:
            run: a W&B run.
        """
        self._run, self._folder, self._tracking = run, folder, tracking
        self._place = f"{run.entity}/{run.project}"
        self._new: dict[str, str] = {}

    def copy(self) -> None:
        """Send summary, evaluations, figures and model, as far as there are any."""
        summary = self._read("summary.json")
        self._run.summary.update(summary)
        for path in sorted(self._folder.glob("evaluation*.json")):
            self._evaluation(path.stem.removeprefix("evaluation"))
        self._figures()
        if self._tracking.log_model and summary.get("status") == "completed":
            self._model(summary)

    def remember(self) -> None:
        """Once W&B has it all: what need not be sent again. Offline all need, as only W&B knows the best model."""
        if self._tracking.mode == "online":
            content = read_mapping(self._folder / IDENTITY, LARGEST)
            write_json(self._folder / IDENTITY, content | {"sent": self._sent() | self._new})

    def _sent(self) -> dict[str, Any]:
        sent = read_mapping(self._folder / IDENTITY, LARGEST).get("sent")
        return sent if isinstance(sent, dict) else {}

    def _read(self, name: str) -> dict[str, Any]:
        path = self._folder / name
        return read_mapping(path, LARGEST) if is_own(path, self._folder, LARGEST) else {}

    def _evaluation(self, suffix: str) -> None:
        name = suffix.removeprefix("-") or "test"
        path, predictions = self._folder / f"evaluation{suffix}.json", self._folder / f"predictions{suffix}.csv"
        if not (result := self._read(path.name)):
            return
        with self._once(f"evaluation/{name}", [path]) as is_new:
            if not is_new:
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
        with self._once("figures", figures) as is_new:
            if figures and is_new:
                self._run.log({f"figures/{path.stem}": wandb.Image(str(path)) for path in figures})

    def _model(self, summary: dict[str, Any]) -> None:
        """The exported model as an artifact."""
        weights = [path for name in MODEL if is_own(path := self._folder / name, self._folder, LARGEST_MODEL)]
        besides = [path for name in BESIDES if is_own(path := self._folder / name, self._folder, LARGEST)]
        if len(weights) == len(MODEL):
            with self._once("model", weights) as is_new:
                if is_new:
                    self._artifact(summary, weights, besides)

    def _artifact(self, summary: dict[str, Any], weights: list[Path], besides: list[Path]) -> None:
        import wandb

        config = self._run.config
        monitor = config["trainer"]["monitor"]
        about = {"monitor": monitor, "value": summary[monitor], "run": self._run.id}
        artifact = wandb.Artifact(artifact_name(config["experiment_name"]), type="model", metadata=about)
        for path in weights:
            artifact.add_file(str(path), name=path.relative_to(self._folder).as_posix())
        for path in besides:  # texts, in which addresses may stand
            with artifact.new_file(path.relative_to(self._folder).as_posix(), mode="w", encoding="utf-8") as file:
                file.write(without_passwords(read_text(path, LARGEST)))
        is_online = self._tracking.mode == "online"
        aliases = ["latest", *(["best"] if is_online and self._is_best(artifact.name, about) else [])]
        logged = self._run.log_artifact(artifact, aliases=aliases)
        if is_online:
            logged.wait(timeout=max(1, int(self._tracking.timeout_s)))

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

    @contextmanager
    def _once(self, mark: str, files: list[Path]) -> Iterator[bool]:
        """Yield whether W&B does not have these contents yet; a block that raises has not sent them."""
        digest = hashlib.sha256()
        for path in files:
            digest.update(path.name.encode() + b"\0")
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        key = f"{self._place}/{mark}"
        yield self._sent().get(key) != digest.hexdigest()
        self._new[key] = digest.hexdigest()


def artifact_name(experiment: str) -> str:
    """A name for W&B, which takes at most 128 letters, digits, dashes, underscores and dots."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", experiment).strip("-") or "model"
    return (
        name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    )

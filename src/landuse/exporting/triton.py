"""The folder of a model as Triton Inference Server and KServe read it."""

import json
import os
import shutil
from pathlib import Path

from landuse.exporting.folders import TRITON, building, publish
from landuse.serving.artifact import MODEL_FILE
from landuse.serving.engine import INPUT, OUTPUTS, Engine

LABELS = "labels.txt"
MOST_IN_BATCH = 32


def write_model(export: Path, engine: Engine, name: str) -> Path:
    """Write ``<export>/triton/<name>/`` with config.pbtxt, the labels and version 1 of a graph.

    Triton's documentation, "Model Configuration": with a batch dimension, ``dims`` are those of one element. Batches
    are formed of what waits, and nothing waits for a batch to fill.

    Args:
        export: the run's ``export`` folder.
        engine: of an exported folder.
    """
    target = export / TRITON / name
    with building(export, f"{TRITON}-{name}") as new:
        (new / "1").mkdir()
        graph, copy = engine.model.folder / MODEL_FILE, new / "1" / MODEL_FILE
        try:
            os.link(graph, copy)  # replaced as a whole by later exports, never written to
        except OSError:  # a file system without hard links
            shutil.copyfile(graph, copy)
        labels = [" ".join(label.split()) for label in engine.model.classes]  # one a line
        (new / LABELS).write_text("".join(f"{label}\n" for label in labels), encoding="utf-8", newline="\n")
        (new / "config.pbtxt").write_text(_config(name, engine), encoding="utf-8", newline="\n")
        publish(new, target)
    return target


def _config(name: str, engine: Engine) -> str:
    size, num_classes = engine.model.image_size, len(engine.model.classes)
    probabilities, features = OUTPUTS
    return f"""\
name: {json.dumps(name)}
backend: "onnxruntime"
max_batch_size: {MOST_IN_BATCH}
input [
  {{ name: "{INPUT}" data_type: TYPE_UINT8 dims: [ {size}, {size}, 3 ] }}
]
output [
  {{ name: "{probabilities}" data_type: TYPE_FP32 dims: [ {num_classes} ] label_filename: "{LABELS}" }},
  {{ name: "{features}" data_type: TYPE_FP32 dims: [ {engine.num_features} ] }}
]
dynamic_batching {{ }}
"""

"""Runs an exported graph with onnxruntime."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from landuse.errors import UserError
from landuse.serving.artifact import MODEL_FILE, ServedModel, read_served

INPUT, OUTPUTS = "images", ("probabilities", "features")


class Answers(NamedTuple):
    """What the model says of N images."""

    probabilities: NDArray[np.float32]  # (N, C)
    features: NDArray[np.float32]  # (N, D), of the last layer but one


class Engine:
    """An exported model, ready to answer; several threads may ask it at once."""

    def __init__(self, folder: Path, num_threads: int = 1, max_batch: int = 1) -> None:
        """Load the model and let it answer once at both batch sizes, so that no later request pays for that.

        Args:
            folder: an exported folder, see :mod:`landuse.serving.artifact`.
            num_threads: of one call; 1 runs in the caller's thread.
            max_batch: the largest batch that it will be asked.

        Raises:
            UserError: the folder is damaged, or its graph is no such model.
        """
        self._load(*read_served(folder), num_threads, max_batch)

    @classmethod
    def of(cls, model: ServedModel, graph: bytes, num_threads: int, max_batch: int) -> "Engine":
        """An engine of what :func:`landuse.serving.artifact.read_served` has read.

        Raises:
            UserError: the graph is no such model.
        """
        engine = cls.__new__(cls)
        engine._load(model, graph, num_threads, max_batch)
        return engine

    def _load(self, model: ServedModel, graph: bytes, num_threads: int, max_batch: int) -> None:
        import onnxruntime

        self.model = model
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = num_threads, 1
        options.log_severity_level = 3  # errors; what it warns of is for its developers
        # A stranger's graph may name files to read weights from, which would be looked for in the current folder.
        nowhere = str(model.folder / "weights-are-in-the-graph")
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", nowhere)
        path = model.folder / MODEL_FILE
        try:
            self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
            self._require_signature()
            for size in {1, max_batch}:
                answers = self(np.full((size, self.model.image_size, self.model.image_size, 3), 128, np.uint8))
        except UserError:
            raise
        except Exception as error:  # onnxruntime has classes of its own for each kind of damage
            problem = str(error).partition("\n")[0][:300]
            raise UserError(f"{path} cannot be run ({problem}). Export the run again.") from error
        if answers.probabilities.shape[1:] != (len(self.model.classes),):
            raise UserError(f"{path} does not have the {len(self.model.classes)} classes of its description.")
        self.num_features = int(answers.features.shape[1])

    def __call__(self, images: NDArray[np.uint8]) -> Answers:
        """Answer for images (N, S, S, 3) uint8 RGB.

        Raises:
            UserError: the model gives what are no numbers, or not a row for each image.
        """
        answers = Answers(*self._session.run(OUTPUTS, {INPUT: images}))
        if not all(len(values) == len(images) and np.isfinite(values).all() for values in answers):
            raise UserError(
                f"{self.model.folder / MODEL_FILE} answers with what are no numbers, or not for each image: its weights"
                " are damaged. Export the run again."
            )
        return answers

    def _require_signature(self) -> None:
        inputs = [(value.name, value.type) for value in self._session.get_inputs()]
        outputs = [value.name for value in self._session.get_outputs()]
        if inputs != [(INPUT, "tensor(uint8)")] or not set(OUTPUTS) <= set(outputs):
            raise UserError(
                f"{self.model.folder / MODEL_FILE} takes {inputs} and gives {outputs}, which is no model of this "
                "program. Export the run again."
            )


def top_classes(probabilities: NDArray[np.float32], classes: Sequence[str], top_n: int) -> list[tuple[str, float]]:
    """The ``top_n`` most probable classes of one image, the most probable first; ties in the order of the classes."""
    order = np.argsort(-probabilities, kind="stable")[:top_n]
    return [(classes[i], float(probabilities[i])) for i in order]

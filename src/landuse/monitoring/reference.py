"""What images looked like, to a model and as such, when it was validated: what later images are compared with.

A reference is saved beside the model as one safetensors file. It may come from a stranger, so all of it is checked.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from threadpoolctl import threadpool_limits

from landuse.errors import UserError
from landuse.files import open_regular, replacing
from landuse.monitoring.statistics import NAMES, image_statistics

FORMAT, FORMAT_VERSION = "landuse-reference", 1
MOST_ROWS = 2000  # images of a reference
MOST_FITTED, LEAST_FITTED = 500, 2  # images that the components are fitted to; fewer have no direction
ENOUGH = MOST_ROWS + MOST_FITTED  # images; of more a part is chosen
COMPONENTS = 8  # of the features
LARGEST_FILE = 50_000_000  # bytes; 2000 rows, and components of a million features
READ_AT_ONCE = 64  # images of a memory map
SEED = 0
CURE = "Export the run again (python -m landuse.export run=PATH), or copy the whole folder again."


class Rows(NamedTuple):
    """What is kept of n images."""

    statistics: NDArray[np.float32]  # (n, K), see monitoring/statistics.py
    features: NDArray[np.float32]  # (n, P), projected
    confidence: NDArray[np.float32]  # (n,), probability of the predicted class
    predicted: NDArray[np.int64]  # (n,), index of the predicted class


@dataclass(frozen=True, eq=False)  # eq: comparing arrays gives arrays, not a bool
class Reference:
    """The images of the validation split, or as many of them as tell enough.

    Attributes:
        rows: of the images.
        centre: (D,) float32, what is subtracted from features.
        components: (P, D) float32, what the difference is then multiplied by.
        num_classes: of the model.
        split: where the images are from.
    """

    rows: Rows
    centre: NDArray[np.float32]
    components: NDArray[np.float32]
    num_classes: int
    split: str

    def project(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Features (N, D) of the last layer but one, brought to (N, P)."""
        return _projected(features, self.centre, self.components)

    def rows_of(
        self, images: NDArray[np.uint8], probabilities: NDArray[np.floating], features: NDArray[np.float32]
    ) -> Rows:
        """What is compared of N images.

        Args:
            images: (N, S, S, 3) RGB, as the model sees them.
            probabilities: (N, C), calibrated as those of the reference are.
            features: (N, D).
        """
        return _rows(image_statistics(images), self.project(features), probabilities)


def make_reference(
    images: NDArray[np.uint8],
    probabilities: NDArray[np.floating],
    features: NDArray[np.float32],
    split: str = "val",
) -> Reference:
    """The reference of a split, of a seeded choice where it has many images; the same input gives the same reference.

    Of n images a quarter serves to find the principal components of the features, whitened, and only the others are
    rows of the reference: along components that were fitted to them, images scatter more than new ones do, and every
    comparison would begin with a difference. Of fewer than 8 images all are rows, and there are no components.

    Args:
        images: (n, S, S, 3) RGB, as the model sees them; may be a memory map.
        probabilities: (n, C).
        features: (n, D).

    Raises:
        ValueError: there are no images, or the numbers of rows differ.
    """
    n = len(images)
    if not n == len(probabilities) == len(features) > 0:
        raise ValueError(f"{n} images need as many probabilities and features, and one at least")
    order = np.random.default_rng(SEED).permutation(n)
    num_fitted = min(MOST_FITTED, n // 4) if n // 4 >= LEAST_FITTED else 0
    kept = np.sort(order[num_fitted:][:MOST_ROWS])
    centre, components = _principal(features[order[:num_fitted]])
    projected = _projected(features[kept], centre, components)
    statistics = [image_statistics(images[rows]) for rows in np.array_split(kept, -(-len(kept) // READ_AT_ONCE))]
    rows = _rows(np.concatenate(statistics), projected, probabilities[kept])
    return Reference(rows, centre, components, probabilities.shape[1], split)


def save(path: Path, reference: Reference) -> None:
    """Write a reference, which replaces an older file at once."""
    tensors = reference.rows._asdict() | {"centre": reference.centre, "components": reference.components}
    about = {
        "format_version": FORMAT_VERSION,
        "statistics": NAMES,
        "num_classes": reference.num_classes,
        "split": reference.split,
    }
    contiguous = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    with replacing(path) as temporary:
        # One entry, because several would come in an order of chance.
        temporary.write_bytes(safetensors.numpy.save(contiguous, {FORMAT: json.dumps(about)}))


def load(path: Path, num_classes: int | None = None, num_features: int | None = None) -> Reference:
    """Read a reference and check all of it.

    Args:
        path: the file.
        num_classes: of the model that it belongs to, where it is known.
        num_features: likewise.

    Raises:
        UserError: there is none, it is damaged or contradicts itself, or it belongs to another model.
    """
    try:
        with open_regular(path) as file:
            size = file.seek(0, 2)
        _require(size <= LARGEST_FILE, f"it has more than {LARGEST_FILE:,} bytes")
        with safe_open(path, framework="numpy") as content:
            metadata = content.metadata() or {}
            tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118 (no mapping)
        reference = _parse(metadata, tensors)
        _require(num_classes in (None, reference.num_classes), "it is of a model with another number of classes")
        _require(num_features in (None, len(reference.centre)), "it is of a model with other features")
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing, and without it drift cannot be told. {CURE}") from error
    except (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError) as error:
        problem = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(f"{path} is no reference for drift ({problem}). {CURE}") from error
    return reference


def _principal(features: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Centre (D,) and the first principal components (P, D), divided by the standard deviation along them.

    Directions without variance are left out; there may be none, and of no features (0, D) there are none.
    """
    if len(features) == 0:
        return np.zeros(features.shape[1], np.float32), np.zeros((0, features.shape[1]), np.float32)
    centre = features.mean(axis=0, dtype=np.float64)
    with threadpool_limits(1, "blas"):  # beside other work on the same cores, more take a hundred times as long
        _, scales, directions = np.linalg.svd(features - centre, full_matrices=False)
    deviations = scales[:COMPONENTS] / np.sqrt(len(features))
    kept = deviations > 1e-5 * max(1.0, float(np.abs(features).max()))  # less is float32's rounding
    components = directions[:COMPONENTS][kept] / deviations[kept, None]
    return centre.astype(np.float32), components.astype(np.float32)


def _projected(
    features: NDArray[np.float32], centre: NDArray[np.float32], components: NDArray[np.float32]
) -> NDArray[np.float32]:
    # Not by BLAS, whose threads may wait milliseconds for a core where several lanes serve.
    projected: NDArray[np.float32] = np.einsum("nd,pd->np", features - centre, components, dtype=np.float32)
    return projected


def _rows(statistics: NDArray[np.float32], projected: NDArray[np.float32], probabilities: NDArray[np.floating]) -> Rows:
    confidence = probabilities.max(axis=1).astype(np.float32)
    return Rows(statistics, projected, confidence, probabilities.argmax(axis=1).astype(np.int64))


def _parse(metadata: dict[str, str], tensors: dict[str, NDArray[Any]]) -> Reference:
    _require(FORMAT in metadata, f"this is not the format '{FORMAT}'")
    about = json.loads(metadata[FORMAT])
    _require(about["format_version"] == FORMAT_VERSION, f"this program reads format_version {FORMAT_VERSION}")
    _require(about["statistics"] == list(NAMES), "its statistics are those of another version")
    num_classes, split = about["num_classes"], about["split"]
    _require(type(num_classes) is int and num_classes >= 2, "num_classes must be 2 or more")
    _require(isinstance(split, str), "split must be text")
    _require(tensors.keys() == {*Rows._fields, "centre", "components"}, f"its tensors are {', '.join(sorted(tensors))}")
    for name, tensor in tensors.items():
        expected = np.int64 if name == "predicted" else np.float32
        _require(tensor.dtype == expected, f"{name} must be {np.dtype(expected)}")
        _require(bool(np.isfinite(tensor).all()), f"{name} has values that are not finite")
    rows = Rows(*(tensors[name] for name in Rows._fields))
    centre, components = tensors["centre"], tensors["components"]
    n, num_components = len(rows.confidence), len(components)
    shapes = {
        "statistics": (n, len(NAMES)), "features": (n, num_components), "confidence": (n,), "predicted": (n,),
        "centre": (len(centre),), "components": (num_components, len(centre)),
    }  # fmt: skip
    for name, shape in shapes.items():
        _require(tensors[name].shape == shape, f"{name} has the shape {tensors[name].shape} instead of {shape}")
    _require(1 <= n <= MOST_ROWS and num_components <= COMPONENTS, "it has no rows, or too many rows or components")
    _require(rows.predicted.min() >= 0 and rows.predicted.max() < num_classes, "predicted names no class")
    _require(rows.confidence.min() >= 0 and rows.confidence.max() <= 1.001, "confidence must lie between 0 and 1")
    return Reference(rows, centre, components, num_classes, split)


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise ValueError(otherwise)

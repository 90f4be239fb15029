"""A model that is ready to be served: a folder of its own, with all that a service needs.

    model.onnx             input "images" uint8 (N, S, S, 3) RGB, already cut square and resized; outputs
                           "probabilities" float32 (N, C), calibrated, and "features" float32 (N, D), penultimate
    onnx.json              what follows here
    reference.safetensors  what images, features and confidences looked like on the validation split, for drift
    samples/<class>.png    an image of the validation split for some classes, for the service's page

Like a run's model/ it may come from a stranger: every value is checked, nothing in it is executed but the graph, and
onnxruntime runs no code that a graph brings.
"""

import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from landuse.config.ground import read_ground
from landuse.errors import UserError
from landuse.files import open_regular, read_text, require_shallow, write_json

MODEL_FILE, DESCRIPTION_FILE, SAMPLES = "model.onnx", "onnx.json", "samples"
FORMAT, FORMAT_VERSION = "landuse-onnx", 1
LARGEST_DESCRIPTION = 10_000_000  # bytes
LARGEST_SIZE = 4096  # pixels
MOST_CLASSES = 10_000


@dataclass(frozen=True)
class ServedModel:
    """A checked ``onnx.json``.

    Attributes:
        folder: where it is.
        variant: fp32, int8, pruned or pruned_int8.
        classes: names in the order of the probabilities.
        image_size: side of the square input in pixels.
        temperature: what the logits were divided by, in the graph.
        value_range: what becomes 0 and 255 in images of one channel with more than 8 bits; None refuses them.
        onnx_sha256: of model.onnx, hexadecimal; its first digits are the version.
        gsd: ground sampling distance of the images that it learned from, in metres a pixel; None: unknown.
        tile_size: their side in pixels, before they were resized to ``image_size``; None: unknown.
        info: the whole content of onnx.json.
    """

    folder: Path
    variant: str
    classes: tuple[str, ...]
    image_size: int
    temperature: float
    value_range: tuple[float, float] | None
    onnx_sha256: str
    gsd: float | None
    tile_size: int | None
    info: dict[str, Any]

    @property
    def version(self) -> str:
        """Twelve digits that tell this graph from any other."""
        return self.onnx_sha256[:12]


def describe(folder: Path, content: dict[str, Any]) -> None:
    """Write ``onnx.json`` beside the ``model.onnx`` that is there.

    Args:
        content: variant, classes, image_size, temperature, value_range, and ``source`` and ``facts`` for people.
    """
    sha256 = hashlib.sha256((folder / MODEL_FILE).read_bytes()).hexdigest()
    write_json(folder / DESCRIPTION_FILE, {
        "format": FORMAT, "format_version": FORMAT_VERSION, **content, "onnx_sha256": sha256,
    })  # fmt: skip


def read_served(folder: Path) -> tuple[ServedModel, bytes]:
    """Read and check an exported folder; its description, and the graph: what was checked is what is used.

    Raises:
        UserError: it is incomplete, damaged or contradicts itself.
    """
    path = folder / DESCRIPTION_FILE
    try:
        content = json.loads(read_text(path, LARGEST_DESCRIPTION))
        require_shallow(content)
        model = _parse(folder, content)
        with open_regular(folder / MODEL_FILE) as file:
            graph = file.read()
        if hashlib.sha256(graph).hexdigest() != model.onnx_sha256:
            raise ValueError(f"{MODEL_FILE} is not the file that it describes")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        problem = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(f"{path}: {problem}. Export the run again (python -m landuse.export run=PATH).") from error
    return model, graph


def _parse(folder: Path, content: Any) -> ServedModel:
    _require(isinstance(content, dict) and content.get("format") == FORMAT, f"this is not the format '{FORMAT}'")
    _require(content["format_version"] == FORMAT_VERSION, f"this program reads format_version {FORMAT_VERSION}")
    classes, size, temperature = content["classes"], content["image_size"], content["temperature"]
    _require(
        isinstance(classes, list) and 2 <= len(classes) <= MOST_CLASSES and len(set(classes)) == len(classes)
        and all(isinstance(name, str) and name.strip() and _is_text(name) for name in classes),
        "classes must be a list of different names",
    )  # fmt: skip
    _require(type(size) is int and 8 <= size <= LARGEST_SIZE, f"image_size must lie between 8 and {LARGEST_SIZE}")
    _require(_is_number(temperature) and 0 < temperature <= 1000, "temperature must be a positive number")
    value_range = content["value_range"]
    _require(
        value_range is None
        or (isinstance(value_range, list) and len(value_range) == 2 and all(map(_is_number, value_range))
            and value_range[0] < value_range[1]),
        "value_range must be null or [low, high]",
    )  # fmt: skip
    _require(isinstance(content["variant"], str) and content["variant"].isidentifier(), "variant must be a name")
    _require(isinstance(content["onnx_sha256"], str), "onnx_sha256 must be text")
    source = content.get("source", {})
    _require(isinstance(source, dict), "source must be an object")
    ground = read_ground(source)
    return ServedModel(
        folder=folder,
        variant=content["variant"],
        classes=tuple(classes),
        image_size=size,
        temperature=float(temperature),
        value_range=None if value_range is None else (float(value_range[0]), float(value_range[1])),
        onnx_sha256=content["onnx_sha256"],
        gsd=ground.gsd,
        tile_size=ground.tile_size,
        info=content,
    )


def _is_text(name: str) -> bool:
    """JSON can express lone surrogates, which no file takes, and the character that ends texts elsewhere."""
    return "\0" not in name and not any("\ud800" <= letter <= "\udfff" for letter in name)


def _is_number(value: object) -> bool:
    """Whether it is finite and can become a float, which whole numbers of hundreds of digits cannot."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise ValueError(otherwise)

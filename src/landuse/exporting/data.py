"""The images behind a model, where they are at hand."""

from dataclasses import fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from landuse.data.pack import Pack
from landuse.files import read_mapping
from landuse.models.export import LoadedModel

LARGEST_PACK_FILE = 10_000_000  # bytes of pack.json
NUM_NOISE = 36  # images


def packed_before(home: Path, model: LoadedModel) -> Pack | None:
    """The pack that a model was trained on, if it still lies below ``data.home``: whatever became of its source.

    It is told by its split and by the statistics of its training images, which are the model's normalisation.
    """
    for folder in sorted((home / "packs").glob(f"*-{model.image_size}px-*")):
        content = read_mapping(folder / "pack.json", LARGEST_PACK_FILE)
        is_same = (
            content.get("classes") == list(model.classes)
            and content.get("split_fingerprint") == model.info["extra"].get("split_fingerprint")
            and (content.get("mean"), content.get("std")) == (list(model.mean), list(model.std))
        )
        names = {field.name for field in fields(Pack)} - {"folder", "max_images"}
        if is_same and names <= content.keys():
            return Pack(folder=folder, **{name: content[name] for name in names})
    return None


def noise(image_size: int) -> NDArray[np.uint8]:
    """Images (36, S, S, 3) of random pixels, for comparisons where there are none of the data."""
    return np.random.default_rng(0).integers(0, 256, (NUM_NOISE, image_size, image_size, 3), dtype=np.uint8)

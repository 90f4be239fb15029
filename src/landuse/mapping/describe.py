"""What a scene is, and what has to be decided before it can be read as 8-bit RGB: bands, range of values, place."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from landuse.addresses import named
from landuse.errors import UserError
from landuse.mapping.scene import Scene, explained, opened

if TYPE_CHECKING:
    from rasterio import DatasetReader
    from rasterio.crs import CRS

COLOURS = ("red", "green", "blue")
SAMPLE_PX = 1024  # along a side, of what the range of deep values is taken from
PERCENTILES = (2.0, 98.0)


class Asked(NamedTuple):
    """What the command line says of scenes."""

    bands: Sequence[str] = ()
    value_range: Sequence[float] | None = None
    model_range: Sequence[float] | None = None  # of the images that the model was trained with
    crs: str | None = None


def describe(path: str, asked: Asked) -> Scene:
    """Open a scene and decide how it is read.

    Raises:
        UserError: it cannot be read, or needs a decision that only the user can take; says which.
    """
    is_local = "://" not in path
    if is_local and Path(path).exists() and not Path(path).is_file():
        raise UserError(f"{path} is no regular file: name an image.")  # a pipe would be waited for
    address = str(Path(path).absolute()) if is_local else path
    with opened(path, address) as dataset, explained(path, ""):
        return _described(path, address, dataset, asked)


def _described(path: str, address: str, dataset: "DatasetReader", asked: Asked) -> Scene:
    bands = _choose_bands(path, dataset, asked.bands)
    dtype = _dtype(path, dataset, bands)
    palette = _palette(dataset, bands)
    may_lack_data = _may_lack_data(dataset, bands, dtype, palette)
    value_range, rule = _choose_range(path, dataset, bands, dtype, asked, may_lack_data)
    crs, transform = _georeference(path, dataset, asked.crs)
    return Scene(
        path=path, address=address, width=dataset.width, height=dataset.height, crs=crs, transform=transform,
        bands=bands, band_names=tuple(_band_name(dataset, band) for band in bands), files=tuple(dataset.files),
        dtype=dtype, value_range=value_range, range_rule=rule, may_lack_data=may_lack_data, nodata=dataset.nodata,
        palette=palette,
    )  # fmt: skip


def _band_name(dataset: "DatasetReader", band: int) -> str:
    return str(dataset.descriptions[band - 1] or dataset.colorinterp[band - 1].name)


def _choose_bands(path: str, dataset: "DatasetReader", asked: Sequence[str]) -> tuple[int, ...]:
    names = [
        {str(name).strip().casefold() for name in (dataset.descriptions[i], dataset.colorinterp[i].name) if name}
        for i in range(dataset.count)
    ]
    listing = ", ".join(f"{i + 1} {_band_name(dataset, i + 1)}" for i in range(min(dataset.count, 30)))
    if not asked:
        by_colour = tuple(_first(names, colour) for colour in COLOURS)
        if all(by_colour):
            return by_colour
        if dataset.count == 3:
            return 1, 2, 3
        if dataset.count == 1 or (dataset.count == 2 and "alpha" in names[1]):
            return (1,)
        raise UserError(
            f"{named(path)} has {dataset.count} bands ({listing}) that are not marked as red, green and blue: say "
            "which these are, by number or name, such as map.bands=[4,3,2]."
        )
    if len(asked) not in (1, 3):
        raise UserError(f"map.bands={list(asked)}: name three bands, for red, green and blue, or one for grey.")
    found = tuple(int(word) if word.isdecimal() else _first(names, word.strip().casefold()) for word in map(str, asked))
    for word, band in zip(asked, found, strict=True):
        if not 1 <= band <= dataset.count:
            raise UserError(f"map.bands: {named(path)} has no band {word}; it has {dataset.count}: {listing}.")
    return found


def _first(names: Sequence[set[str]], wanted: str) -> int:
    """Number of the first band of that name; 0: there is none."""
    return next((i + 1 for i, known in enumerate(names) if wanted in known), 0)


def _dtype(path: str, dataset: "DatasetReader", bands: Sequence[int]) -> str:
    kinds = {dataset.dtypes[band - 1] for band in bands}
    if len(kinds) > 1 or np.dtype(next(iter(kinds))).kind not in "uif":
        raise UserError(
            f"{named(path)} has bands of {' and '.join(sorted(kinds))}: convert it to one real kind of number."
        )
    return str(kinds.pop())


def _palette(dataset: "DatasetReader", bands: Sequence[int]) -> NDArray[np.uint8] | None:
    if (
        len(bands) != 1
        or dataset.dtypes[bands[0] - 1] != "uint8"
        or dataset.colorinterp[bands[0] - 1].name != "palette"
    ):
        return None
    colours = np.zeros((256, 4), np.uint8)
    for value, colour in dataset.colormap(bands[0]).items():
        if 0 <= value < 256:
            colours[value] = colour
    return colours


def _may_lack_data(
    dataset: "DatasetReader", bands: Sequence[int], dtype: str, palette: NDArray[np.uint8] | None
) -> bool:
    is_masked = any(flag.name != "all_valid" for band in bands for flag in dataset.mask_flag_enums[band - 1])
    return is_masked or np.dtype(dtype).kind == "f" or (palette is not None and bool((palette[:, 3] == 0).any()))


def _choose_range(
    path: str, dataset: "DatasetReader", bands: Sequence[int], dtype: str, asked: Asked, may_lack_data: bool
) -> tuple[tuple[float, float] | None, str]:
    if asked.value_range is not None:
        return _pair(asked.value_range), "map.value_range"
    num_bits = dataset.tags(bands[0], ns="IMAGE_STRUCTURE").get("NBITS", "8")
    if dtype == "uint8":
        return (None, "8-bit") if num_bits == "8" else ((0.0, 2.0 ** int(num_bits) - 1), f"{num_bits}-bit")
    if asked.model_range is not None:
        return _pair(asked.model_range), "the range of the model's images"
    step = max(1.0, dataset.width / SAMPLE_PX, dataset.height / SAMPLE_PX)
    shape = (len(bands), math.ceil(dataset.height / step), math.ceil(dataset.width / step))
    values = dataset.read(list(bands), out_shape=shape)
    masks = dataset.read_masks(list(bands), out_shape=shape) if may_lack_data else np.full(shape, 255, np.uint8)
    sample = values[(masks > 0) & np.isfinite(values)]
    if not sample.size:
        raise UserError(f"{named(path)} holds no data: all of its pixels are nodata, so there is nothing to map.")
    low, high = (float(value) for value in np.percentile(sample, PERCENTILES))
    rule = f"percentiles {PERCENTILES[0]:g} and {PERCENTILES[1]:g} of the scene"
    return (low, high if high > low else low + 1), rule


def _pair(values: Sequence[float]) -> tuple[float, float]:
    return float(values[0]), float(values[1])


def _georeference(
    path: str, dataset: "DatasetReader", asked: str | None
) -> tuple["CRS | None", tuple[float, ...] | None]:
    from rasterio.crs import CRS
    from rasterio.errors import CRSError

    has_transform = not dataset.transform.is_identity
    if not has_transform and (dataset.gcps[0] or dataset.rpcs):
        raise UserError(
            f"{named(path)} is placed on the ground by control points or a sensor model alone, not on a regular grid: "
            "bring it onto one first, for example with gdalwarp -t_srs EPSG:4326."
        )
    if not math.isfinite(dataset.transform.determinant) or dataset.transform.determinant == 0:
        raise UserError(
            f"{named(path)} has pixels without an extent on the ground (its transform is "
            f"{tuple(dataset.transform)[:6]}): mend its georeference."
        )
    crs = dataset.crs or None
    if asked is not None:
        try:
            given = CRS.from_user_input(asked)
        except CRSError as error:
            raise UserError(f"map.crs={asked}: PROJ knows no such coordinate system, such as EPSG:32633.") from error
        if crs is not None and crs != given:
            raise UserError(f"map.crs={asked}, but {named(path)} is in {crs.to_string()[:100]}: leave map.crs out.")
        if not has_transform:
            raise UserError(
                f"map.crs={asked}, but {named(path)} has no place in it (no transform): leave map.crs out, and give "
                "map.gsd=METRES for areas."
            )
        crs = given
    return (crs, tuple(dataset.transform)[:6]) if has_transform else (None, None)

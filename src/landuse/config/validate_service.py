"""Rules for the keys of export, predict, serve and drift; see :mod:`landuse.config.validate`."""

from collections.abc import Iterator
from urllib.parse import urlparse

from landuse.config.ground import ground_rules
from landuse.config.messages import wrong_choice
from landuse.config.schema import Config, DriftConfig, ExportConfig, PredictConfig, ServeConfig
from landuse.config.validate import LONGEST_S, MOST_THREADS, not_finite, value_range_rules
from landuse.errors import UserError

VARIANTS = ("fp32", "int8", "pruned", "pruned_int8")
LARGEST_COUNT = 1_000_000
LARGEST_BYTES = 2**31


def validate_export(config: Config) -> None:
    """Check the keys of the command export.

    Raises:
        UserError: the first rule that is broken.
    """
    _raise_first(
        not_finite(config.export, "export."), _export(config.export), _name(config.serve), ground_rules(config.data),
    )  # fmt: skip


def validate_predict(config: Config) -> None:
    """Check the keys of the command predict.

    Raises:
        UserError: the first rule that is broken.
    """
    _raise_first(
        not_finite(config.predict, "predict."), _variant(config), _predict(config.predict),
        value_range_rules(config.data.quality.value_range),
    )  # fmt: skip


def validate_serve(config: Config) -> None:
    """Check the keys of the command serve.

    Raises:
        UserError: the first rule that is broken.
    """
    _raise_first(
        not_finite(config.serve, "serve."), not_finite(config.drift, "drift."), _variant(config), _serve(config.serve),
        _drift(config.drift),
    )  # fmt: skip


def validate_drift(config: Config) -> None:
    """Check the keys of the command drift.

    Raises:
        UserError: the first rule that is broken.
    """
    _raise_first(
        not_finite(config.drift, "drift."), _variant(config), _drift(config.drift),
        value_range_rules(config.data.quality.value_range),
    )  # fmt: skip


def _raise_first(*rules: Iterator[str]) -> None:
    for rule in rules:
        for problem in rule:
            raise UserError(problem)


def _variant(config: Config) -> Iterator[str]:
    if config.variant not in VARIANTS:
        yield wrong_choice("variant", config.variant, VARIANTS)


def _export(export: ExportConfig) -> Iterator[str]:
    if not export.variants:
        yield f"export.variants is empty: name at least one of {', '.join(VARIANTS)}."
    for name in export.variants:
        if name not in VARIANTS:
            yield wrong_choice("export.variants", name, VARIANTS)
    if not 0 < export.max_difference < 1:
        yield f"export.max_difference={export.max_difference}: must lie between 0 and 1, such as 0.001."
    if not 0 <= export.max_accuracy_loss <= 1:
        yield f"export.max_accuracy_loss={export.max_accuracy_loss}: must lie between 0 and 1, such as 0.01."
    if not 1 <= export.calibration_images <= LARGEST_COUNT:
        yield f"export.calibration_images={export.calibration_images}: must lie between 1 and {LARGEST_COUNT:,}."
    if not 0 < export.prune_amount < 1:
        yield f"export.prune_amount={export.prune_amount}: must lie between 0 and 1, such as 0.3."
    if not 0 <= export.prune_epochs <= LARGEST_COUNT:
        yield f"export.prune_epochs={export.prune_epochs}: must not be negative."


def _predict(predict: PredictConfig) -> Iterator[str]:
    for name, largest in (("top_n", 10_000), ("batch_size", 4096), ("num_workers", MOST_THREADS)):
        value = getattr(predict, name)
        if value is not None and not 1 <= value <= largest:
            yield f"predict.{name}={value}: must lie between 1 and {largest:,}."
    if predict.output == "":
        yield "predict.output is empty: name a file, or leave it out for stdout."


def _serve(serve: ServeConfig) -> Iterator[str]:
    if serve.port is not None and not 0 <= serve.port <= 65535:
        yield f"serve.port={serve.port}: must lie between 0 (any free one) and 65535."
    yield from _name(serve)
    largest = {
        "lanes": MOST_THREADS, "threads": MOST_THREADS, "max_batch": 4096, "max_queue": LARGEST_COUNT,
        "max_bytes": LARGEST_BYTES, "max_pending_bytes": 2**40,
        "max_files": 10_000, "max_pixels": 178_956_970, "max_tiles": 65_536, "max_connections": LARGEST_COUNT,
    }  # fmt: skip
    for name, limit in largest.items():  # of pixels: where Pillow refuses pictures anyway
        value = getattr(serve, name)
        if value is not None and not 1 <= value <= limit:
            yield f"serve.{name}={value}: must lie between 1 and {limit:,}."
    if serve.max_queue < serve.max_files:
        yield f"serve.max_queue={serve.max_queue}: must be at least serve.max_files={serve.max_files}, of one request."
    if serve.max_pending_bytes < serve.max_bytes:
        yield f"serve.max_pending_bytes={serve.max_pending_bytes}: must be at least serve.max_bytes={serve.max_bytes}."
    for name in ("deadline_s", "map_deadline_s", "upload_timeout_s", "drain_s"):
        if not 0 < getattr(serve, name) <= LONGEST_S:
            yield f"serve.{name}={getattr(serve, name)}: must lie between 0 and {LONGEST_S:,} seconds."
    for address in serve.cors_origins:
        parts = urlparse(address)
        if address != "*" and (parts.scheme not in ("http", "https") or not parts.netloc or parts.path):
            yield f"serve.cors_origins: {address!r} must be of the form https://host, without a path."
    if serve.traces is not None and urlparse(serve.traces).scheme not in ("http", "https"):
        yield f"serve.traces={serve.traces}: must be an address such as http://host:4318."


def _name(serve: ServeConfig) -> Iterator[str]:
    if not serve.name.isascii() or not serve.name.replace("-", "_").isidentifier():
        yield f"serve.name={serve.name}: is part of addresses and may have letters, digits, '_' and '-' only."


def _drift(drift: DriftConfig) -> Iterator[str]:
    if not 10 <= drift.min_images <= drift.window:
        yield f"drift.min_images={drift.min_images}: must lie between 10 and drift.window={drift.window}."
    if drift.window > 100_000:
        yield f"drift.window={drift.window}: must be at most 100,000 images."
    if not 0 < drift.share <= 1:
        yield f"drift.share={drift.share}: must lie above 0, and be at most 1, where all images are looked at."
    if not 0 < drift.alpha < 1:
        yield f"drift.alpha={drift.alpha}: is a probability between 0 and 1, such as 0.001."

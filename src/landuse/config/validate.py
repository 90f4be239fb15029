"""Rules across keys, checked before any data is read and before torch is imported.

Each rule raises :class:`UserError` with the key, its value, the rule and the remedy.
"""

import dataclasses
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PureWindowsPath
from typing import Any
from urllib.parse import urlparse

from landuse.addresses import shown
from landuse.config import devices
from landuse.config.folders import name_problems
from landuse.config.ground import ground_rules
from landuse.config.processes import Place
from landuse.config.schema import (
    AugmentConfig,
    Config,
    DataConfig,
    StorageConfig,
    TrackingConfig,
    TrainerConfig,
)
from landuse.errors import UserError
from landuse.models.rules import architecture_problems, model_problems

FIXED_SIZE_MODELS = ("vit_", "maxvit_")
SCHEMES = "https://, http://, gs://, kaggle:// or file://"
FORMS = {  # of addresses, as a pattern and for people
    "https": (r"https://[^/?#]+/.+", "https://host/path"),
    "http": (r"http://[^/?#]+/.+", "http://host/path"),
    "gs": (r"gs://[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]/[^?#]+", "gs://bucket/object"),
    "kaggle": (r"kaggle://[\w-]+/[\w-]+(\?version=[1-9]\d*)?", "kaggle://owner/dataset or ...?version=N"),
    "file": (r"file://.*/.+", "file:///path"),
}
LARGEST_IMAGE = 4096  # pixels; a square of this side is 48 MB of uint8
LONGEST_DATA_NAME = 100  # bytes; names of packs, runs and files are made of it, and file systems take 255
LARGEST_BATCH = 1_000_000  # images
MOST_FOLDS = 1000  # the work grows with them, and parts of no image are of no use
FEWEST_PER_PROCESS = 4  # images of a batch, so that the smallest batches still give each process two
LONGEST_S = 86_400  # that anything is waited for
MOST_THREADS = 1024  # OpenMP fails without a message where the system gives no more of them


def validate(config: Config) -> None:
    """Check the whole tree.

    Raises:
        UserError: the first rule that is broken.
    """
    for problem in _problems(config):
        raise UserError(problem)


def validate_data(config: DataConfig) -> None:
    """Check what download and preprocess need, whatever the rest of the tree says.

    Raises:
        UserError: the first rule that is broken.
    """
    for problem in (*not_finite(config, "data."), *_data(config)):
        raise UserError(problem)


def validate_storage(config: StorageConfig) -> None:
    """Check the keys of the command storage, whatever the rest of the tree says.

    Raises:
        UserError: the first rule that is broken.
    """
    for problem in (*not_finite(config, "storage."), *_storage(config)):
        raise UserError(problem)


def validate_tracking(config: TrackingConfig) -> None:
    """Check what the command track needs, whatever the rest of the tree says.

    Raises:
        UserError: the first rule that is broken.
    """
    for problem in (*not_finite(config, "tracking."), *_tracking(config)):
        raise UserError(problem)


def not_finite(node: Any, prefix: str = "") -> Iterator[str]:
    """nan and inf pass every comparison that looks for what is wrong; larger integers fit into no array."""
    for field in dataclasses.fields(node):
        value, key = getattr(node, field.name), f"{prefix}{field.name}"
        if dataclasses.is_dataclass(value):
            yield from not_finite(value, f"{key}.")
        numbers = value if isinstance(value, list) else [value]
        if any(isinstance(number, float) and not math.isfinite(number) for number in numbers):
            yield f"{key}={value}: must be a finite number."
        if any(isinstance(number, int) and abs(number) >= 2**63 for number in numbers):
            yield f"{key}={value}: must lie below 2^63."


def _problems(config: Config) -> Iterator[str]:
    yield from not_finite(config)
    yield from name_problems(config.outputs, experiment_name=config.experiment_name, run_name=config.run_name)
    yield from _data(config.data)
    yield from _augment(config.augment)
    yield from _model(config)
    yield from _trainer(config.trainer)
    yield from _device(config)
    yield from _storage(config.storage)
    yield from _tracking(config.tracking)
    batch_size = config.evaluation.batch_size
    if batch_size is not None and not 1 <= batch_size <= LARGEST_BATCH:
        yield f"evaluation.batch_size={batch_size}: must lie between 1 and {LARGEST_BATCH:,}, or be null."


def value_range_rules(value_range: Sequence[float] | None) -> Iterator[str]:
    """What is wrong with ``data.quality.value_range``."""
    if value_range is not None and not (len(value_range) == 2 and value_range[0] < value_range[1]):
        yield f"data.quality.value_range={list(value_range)}: needs [low,high] with low < high, such as [0,3000]."


def _data(data: DataConfig) -> Iterator[str]:
    if not re.fullmatch(r"\w[\w.-]*", data.name):
        yield f"data.name={data.name}: names a folder and may have letters, digits, '_', '-' and '.' only."
    if len(data.name.encode()) > LONGEST_DATA_NAME:
        yield f"data.name={data.name[:60]}...: is too long; give a name of at most {LONGEST_DATA_NAME} letters."
    if not data.home:
        yield "data.home is empty: give the folder for downloads and packs."
    smallest = 16 if data.source == "synthetic" else 8  # below, nothing drawn can be told apart
    if not smallest <= data.image_size <= LARGEST_IMAGE:
        yield f"data.image_size={data.image_size}: must lie between {smallest} and {LARGEST_IMAGE} pixels."
    if data.synthetic.seed < 0:
        yield f"data.synthetic.seed={data.synthetic.seed}: must not be negative."
    if data.max_images is not None and data.max_images < 1:
        yield f"data.max_images={data.max_images}: must be at least 1, or null for all."
    if data.source == "folder":
        yield from _folder(data)
    elif data.root is not None:
        yield f"data.root={data.root} is not looked at with data.source={data.source}: add data.source=folder."
    if data.source == "archive":
        yield from _archive(data)
    if data.source == "synthetic" and data.synthetic.images_per_class < 5:
        yield f"data.synthetic.images_per_class={data.synthetic.images_per_class}: at least 5 fill the three splits."
    yield from _split(data)
    if data.quality.duplicates == "off" and data.quality.on_leak != "warn":
        how = data.quality.on_leak
        yield f"data.quality.on_leak={how} needs to know which images are the same: not data.quality.duplicates=off."
    yield from value_range_rules(data.quality.value_range)
    yield from ground_rules(data)


def _folder(data: DataConfig) -> Iterator[str]:
    if data.root is None:
        yield f"data={data.name} needs data.root=PATH, a folder that holds one folder of images per class."
    elif not Path(data.root).is_dir():
        yield f"data.root={data.root}: no such folder. It must hold one folder of images per class."


def _archive(data: DataConfig) -> Iterator[str]:
    archive = data.archive
    if not archive.url:
        yield f"data={data.name} needs data.archive.url, the address ({SCHEMES}) of a zip or tar."
    for i, url in enumerate([archive.url, *archive.mirrors]):
        yield from _address("data.archive.url" if i == 0 else f"data.archive.mirrors[{i - 1}]", url or "")
    is_kaggle = (archive.url or "").startswith("kaggle://")
    if archive.sha256 is None and not archive.checksums and not (is_kaggle and not archive.mirrors):
        yield "data.archive.sha256 is missing: an archive is only used when its content can be verified (sha256sum)."
    for checksum in [f"sha256:{archive.sha256}"] if archive.sha256 is not None else archive.checksums:
        algorithm, _, digest = checksum.partition(":")
        length = {"md5": 32, "sha256": 64}.get(algorithm)
        if length is None or len(digest) != length or any(c not in "0123456789abcdef" for c in digest.lower()):
            yield f"The checksum '{checksum}' is not md5:<32 hex digits> or sha256:<64 hex digits>."
    if archive.timeout <= 0:
        yield f"data.archive.timeout={archive.timeout}: must be a positive number of seconds."
    if archive.retries < 0:
        yield f"data.archive.retries={archive.retries}: must be 0 or more."


def _address(key: str, url: str) -> Iterator[str]:
    scheme, name = url.partition(":")[0], f"{key}={shown(url)}"
    if re.match(r"[A-Za-z]:[\\/]", url):
        yield f"{name} is a path: write {PureWindowsPath(url).as_uri()}"
    elif ":" not in url:
        yield f"{name} is a path: write {Path(url).absolute().as_uri()}"
    elif not _is_url(url):
        yield f"{name}: is no well-formed address (write special characters as %20 and so on)."
    elif scheme not in FORMS:
        yield f"{name}: '{scheme}' is not a scheme it can read; give {SCHEMES}."
    elif not re.fullmatch(FORMS[scheme][0], url):
        yield f"{name}: must be of the form {FORMS[scheme][1]}."


def _is_url(text: str) -> bool:
    try:
        _ = urlparse(text).port
        text.encode("ascii")
    except ValueError:
        return False
    return " " not in text


def _split(data: DataConfig) -> Iterator[str]:
    split = data.split
    if split.files is not None:
        if not Path(split.files).is_dir():
            yield f"data.split.files={split.files}: there is no folder {Path(split.files).absolute()}."
        missing = [name for name in ("train.csv", "val.csv", "test.csv") if not (Path(split.files) / name).is_file()]
        if missing:
            yield f"data.split.files={split.files}: the folder lacks {', '.join(missing)} (lines: relative/path,label)."
    if split.groups is not None and not Path(split.groups).is_file():
        yield f"data.split.groups={split.groups}: there is no file {Path(split.groups).absolute()}."
    if split.folds is not None and split.files is not None:
        yield f"data.split.folds={split.folds} and data.split.files={split.files} both divide the images: give one."
    if split.folds is not None and split.folds < 3:
        yield f"data.split.folds={split.folds}: at least 3 are needed, one each for train, val and test."
    if split.folds is not None and split.folds > MOST_FOLDS:
        yield f"data.split.folds={split.folds}: must be at most {MOST_FOLDS}."
    if not 0 <= split.fold < (split.folds or 1):
        last = f"from 0 to {split.folds - 1}" if split.folds else "0 unless data.split.folds is given"
        yield f"data.split.fold={split.fold}: must be {last}."
    if len(split.fractions) != 3 or not all(f > 0 for f in split.fractions) or abs(sum(split.fractions) - 1) > 1e-6:
        yield (
            f"data.split.fractions={list(split.fractions)}: needs three positive numbers (train, val, test) that sum to"
            " 1, such as [0.6,0.2,0.2]."
        )


def _model(config: Config) -> Iterator[str]:
    size, augment = config.data.image_size, config.augment
    train_size = augment.size or size
    start_size = augment.start_size or train_size
    if not 8 <= start_size <= train_size:
        yield f"augment.start_size={start_size}: must lie between 8 and the full size, {train_size} pixels, or be null."
    yield from model_problems(config.model, size)
    yield from architecture_problems(config.model, train_size)
    yield from architecture_problems(config.model, start_size)
    if {train_size, start_size} != {size} and config.model.name.startswith(FIXED_SIZE_MODELS):
        yield (
            f"augment.size={augment.size} and augment.start_size={augment.start_size}: {config.model.name} takes one "
            "image size only; leave them null."
        )


def _augment(augment: AugmentConfig) -> Iterator[str]:
    if augment.crop_scale is not None:
        scale = list(augment.crop_scale)
        if len(scale) != 2 or not 0 < scale[0] <= scale[1] <= 1:
            yield f"augment.crop_scale={scale}: needs 0 < smallest <= largest <= 1, such as [0.6,1.0]."
        if augment.shift:
            yield f"augment.shift={augment.shift} and augment.crop_scale={scale} both move the image: set one off."
    if augment.size is not None and not 8 <= augment.size <= LARGEST_IMAGE:
        yield f"augment.size={augment.size}: must lie between 8 and {LARGEST_IMAGE} pixels, or null."
    for name, largest in (
        ("shift", 0.5),
        ("brightness", 1),
        ("contrast", 1),
        ("saturation", 1),
        ("hue", 0.5),
        ("erasing", 1),
    ):
        value = getattr(augment, name)
        if not 0 <= value <= largest:
            yield f"augment.{name}={value}: must lie between 0 and {largest}."
    for name in ("mixup", "cutmix"):
        if not 0 <= getattr(augment, name) < math.inf:
            yield f"augment.{name}={getattr(augment, name)}: is the alpha of a Beta distribution, not negative."
    if not 0 < augment.grow_epochs <= 1:
        yield f"augment.grow_epochs={augment.grow_epochs}: is a share of the training, above 0 and at most 1."
    for name in ("mix_probability", "mix_epochs"):
        if not 0 <= getattr(augment, name) <= 1:
            yield f"augment.{name}={getattr(augment, name)}: must lie between 0 and 1."


def _trainer(trainer: TrainerConfig) -> Iterator[str]:
    if trainer.batch_size < 2:
        yield f"trainer.batch_size={trainer.batch_size}: must be at least 2, else batch norm has nothing to average."
    if trainer.batch_size > LARGEST_BATCH:
        yield f"trainer.batch_size={trainer.batch_size}: must be at most {LARGEST_BATCH:,} images."
    for name in ("epochs", "accumulate", "log_every", "decay_epochs"):
        if getattr(trainer, name) < 1:
            yield f"trainer.{name}={getattr(trainer, name)}: must be at least 1."
    for name in ("early_stopping", "limit_train_batches", "limit_val_batches", "overfit_batches", "checkpoint_steps"):
        value = getattr(trainer, name)
        if value is not None and value < 1:
            yield f"trainer.{name}={value}: must be at least 1, or null."
    if trainer.checkpoint_minutes is not None and trainer.checkpoint_minutes < 0:
        yield f"trainer.checkpoint_minutes={trainer.checkpoint_minutes}: must not be negative, or null."
    if not (trainer.lr > 0 and math.isfinite(trainer.lr)):
        yield f"trainer.lr={trainer.lr}: must be a positive number, such as 0.001."
    if not 0 <= trainer.weight_decay < math.inf:
        yield f"trainer.weight_decay={trainer.weight_decay}: must not be negative."
    if not 0 <= trainer.momentum < 1:
        yield f"trainer.momentum={trainer.momentum}: must lie in [0, 1)."
    if len(trainer.betas) != 2 or not all(0 <= beta < 1 for beta in trainer.betas):
        yield f"trainer.betas={list(trainer.betas)}: needs two numbers in [0, 1), such as [0.9,0.999]."
    if not 0 <= trainer.label_smoothing < 1:
        yield f"trainer.label_smoothing={trainer.label_smoothing}: must lie in [0, 1)."
    if trainer.ema is not None and not 0 < trainer.ema < 1:
        yield f"trainer.ema={trainer.ema}: must lie between 0 and 1, such as 0.999, or null."
    if trainer.clip_norm is not None and not trainer.clip_norm > 0:
        yield f"trainer.clip_norm={trainer.clip_norm}: must be positive, or null."
    if not 0 < trainer.decay_factor < 1:
        yield f"trainer.decay_factor={trainer.decay_factor}: must lie between 0 and 1."
    if not 0 <= trainer.final_lr <= 1:
        yield f"trainer.final_lr={trainer.final_lr}: is a fraction of trainer.lr and must lie between 0 and 1."
    if trainer.scheduler != "constant" and not 0 <= trainer.warmup_epochs <= trainer.epochs:
        yield (
            f"trainer.warmup_epochs={trainer.warmup_epochs}: must lie between 0 and trainer.epochs={trainer.epochs}; "
            "lower it, to 0 for a quick trial, or train longer."
        )
    if trainer.profile and (trainer.epochs > 1 or (trainer.limit_train_batches or 101) > 100):
        yield (
            "trainer.profile=true records every step: use +debug=profiler, or set trainer.epochs=1 and "
            "trainer.limit_train_batches to at most 100."
        )
    yield from _resume(trainer.resume)


def _resume(resume: str) -> Iterator[str]:
    if resume in ("never", "auto", "unfinished"):
        return
    path = Path(resume)
    if not path.exists():
        yield (
            f"trainer.resume={resume}: is none of never, auto and unfinished, and no checkpoint or run folder is there."
        )
    elif path.is_dir() and not any((path / "checkpoints").glob("*.pt")):
        yield f"trainer.resume={resume}: the folder has no checkpoints/last.pt; give a run folder or a checkpoint."


def _device(config: Config) -> Iterator[str]:
    device, hardware = config.trainer.device, config.hardware
    yield from devices.device_rules(device)
    yield from _processes(config)
    if device == "cpu" and hardware.precision == "fp16":
        yield "hardware.precision=fp16 has no use on the CPU: use bf16, fp32 or auto."
    if hardware.num_threads is not None and not 1 <= hardware.num_threads <= MOST_THREADS:
        yield f"hardware.num_threads={hardware.num_threads}: must lie between 1 and {MOST_THREADS}, or be null."


def _processes(config: Config) -> Iterator[str]:
    place, device, batch_size = Place.find(), config.trainer.device, config.trainer.batch_size
    if place.size == 1:
        return
    if not config.hardware.distributed:
        yield f"torchrun started {place.size} processes, each of which would train a run of its own: add hardware=ddp."
    if device not in ("auto", "cpu", "cuda"):
        yield f"trainer.device={device} with {place.size} processes: give cuda, of which each takes its own, or cpu."
    if device in ("auto", "cuda") and 0 < devices.num_cuda_devices() < place.local_size:
        yield (
            f"torchrun started {place.local_size} processes here, but there are {devices.num_cuda_devices()} GPUs: "
            "lower --nproc-per-node."
        )
    if batch_size < FEWEST_PER_PROCESS * place.size:
        yield (
            f"trainer.batch_size={batch_size} is shared by {place.size} processes: must be at least "
            f"{FEWEST_PER_PROCESS * place.size}."
        )


def _storage(storage: StorageConfig) -> Iterator[str]:
    if storage.url is not None and storage.remote is not None:
        yield f"storage.remote={storage.remote} and storage.url={storage.url} name two places: give one of them."
    if storage.url is not None and not storage.url.startswith("gs://"):
        yield f"storage.url={storage.url}: must be of the form gs://bucket/prefix."
    if storage.timeout_s is not None and storage.timeout_s <= 0:
        yield f"storage.timeout_s={storage.timeout_s}: must be a positive number of seconds, or null."


def _tracking(tracking: TrackingConfig) -> Iterator[str]:
    if not 0 < tracking.timeout_s <= LONGEST_S:
        yield f"tracking.timeout_s={tracking.timeout_s}: must lie between 0 and {LONGEST_S:,} seconds."
    if not tracking.project.strip():
        yield "tracking.project is empty: name a W&B project."

"""Every configuration key of the framework, as dataclasses.

The YAML files under ``conf/`` select among these groups and override values; they define no key of their own. The
dataclasses double as the types that the rest of the code receives: nothing behind the composition sees a DictConfig.
Rules that span several keys live in :mod:`landuse.config.validate`.

No module imported here may import torch: ``--help`` and configuration errors must answer in a fraction of a second.
"""

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass
class ModelConfig:
    """What every architecture has in common."""

    kind: str = "cnn"  # which builder: cnn | slim_resnet | torchvision | custom
    name: str = "cnn"  # the architecture; for kind=torchvision any torchvision classifier
    weights: str | None = None  # null: random; DEFAULT: torchvision's ImageNet weights; or a local file
    freeze_backbone: bool = False  # train the classification head alone


@dataclass
class CNNConfig(ModelConfig):
    """A plain stack of [convolution, max-pool, ReLU, batch norm] blocks with global average pooling; logits out."""

    width: int = 24  # channels of the first block; doubled by each following block up to 8 x width
    depth: int = 6  # number of blocks; each halves the image
    kernel_size: int = 3  # odd; the padding keeps the size
    dropout: float = 0.0  # probability, in front of the linear head


@dataclass
class SlimResNetConfig(ModelConfig):
    """A ResNet of basic blocks with a small stem and a width of one's choice."""

    kind: str = "slim_resnet"  # fixed
    name: str = "slim_resnet"  # fixed
    width: int = 32  # channels of the first stage; doubled by each further one
    blocks: list[int] = field(default_factory=lambda: [2, 2, 2, 2])  # residual blocks per stage


@dataclass
class TorchvisionConfig(ModelConfig):
    """Any classifier of ``torchvision.models``, for any number of classes and input size."""

    kind: str = "torchvision"  # fixed
    name: str = "resnet18"  # any of torchvision.models.list_models(module=torchvision.models)
    stem: Literal["standard", "small"] = "standard"  # small: ResNets begin with a 3x3 instead of a 7x7 convolution
    params: dict[str, Any] = field(default_factory=dict)  # further keyword arguments of the torchvision builder


@dataclass
class CustomModelConfig(ModelConfig):
    """The user's own ``nn.Module``, built as ``target(num_classes=..., **params)``; must return logits (N, classes)."""

    kind: str = "custom"  # fixed
    name: str = "custom"  # for reports and folders; free to choose
    target: str | None = None  # import path, such as my_package.nets.MyNet
    params: dict[str, Any] = field(default_factory=dict)  # its keyword arguments, such as +model.params.width=64


@dataclass
class ArchiveConfig:
    """Where a dataset's archive comes from and which content is accepted."""

    url: str | None = None  # https://, http://, gs://bucket/object, kaggle://owner/dataset[?version=N] or file://
    mirrors: list[str] = field(default_factory=list)  # other addresses of the same content, tried in turn after url
    sha256: str | None = None  # of your own archive; replaces the registered checksums below
    checksums: list[str] = field(default_factory=list)  # registered contents, "md5:<hex>" or "sha256:<hex>"
    timeout: float = 30.0  # seconds without a byte from the server, or a connection (at most 10), that end one try
    retries: int = 4  # further tries after one that brought nothing; the pauses between double from 1 second on
    folder: str | None = None  # the folder in the archive that holds the class folders; null: the only one there is


@dataclass
class SplitConfig:
    """How images are divided into train, val and test."""

    files: str | None = None  # folder with train.csv, val.csv, test.csv; lines "relative/path,label", extension ignored
    fractions: list[float] = field(default_factory=lambda: [0.6, 0.2, 0.2])  # train, val, test; per class
    folds: int | None = None  # instead of fractions: so many parts for cross-validation
    fold: int = 0  # the part that is the test split, from 0; the next one is the validation split
    groups: str | None = None  # CSV of your own, lines "relative/path,group"; what shares a group is never divided
    seed: int = 0  # of the fractions and folds


@dataclass
class QualityConfig:
    """What is asked of the images before they are packed."""

    on_corrupt: Literal["error", "skip"] = "error"  # images that cannot be used: refuse the dataset, or leave them out
    duplicates: Literal["near", "exact", "off"] = "near"  # what counts as the same image, and is kept in one split
    on_leak: Literal["error", "warn", "move"] = "warn"  # given lists that divide duplicates; move: into the earliest
    value_range: list[float] | None = None  # [low, high] that become 0 and 255 in images of over 8 bits; null: refused


@dataclass
class SyntheticConfig:
    """The embedded dataset."""

    images_per_class: int = 150  # for each of the 21 classes
    seed: int = 0  # of the drawing; same seed, same bytes on every machine


@dataclass
class DataConfig:
    """A dataset, and how it is split and packed."""

    name: str = "synthetic"  # in folder names and reports
    source: Literal["synthetic", "archive", "folder"] = "synthetic"  # drawn, an archive, or class folders
    root: str | None = None  # source=folder: the folder that holds one folder of images per class
    home: str = "${oc.env:LANDUSE_DATA,data}"  # downloads and packs live here
    licence: str | None = None  # of the images, for the model card
    gsd: float | None = None  # ground sampling distance of the files in metres a pixel, for maps; null: unknown
    tile_size: int | None = None  # side of the files' images in pixels; null: the commonest shorter side, as packed
    manifest: str | None = None  # file in which download says what the source is, for pipelines
    image_size: int = 64  # pixels; images are centre-cropped to a square and resized to this
    max_images: int | None = None  # use at most this many images of each split (a seeded choice), for quick trials
    archive: ArchiveConfig = field(default_factory=ArchiveConfig)  # source=archive
    split: SplitConfig = field(default_factory=SplitConfig)  # train, val, test
    quality: QualityConfig = field(default_factory=QualityConfig)  # corrupt images, duplicates, leaks
    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)  # source=synthetic


@dataclass
class AugmentConfig:
    """Batched augmentation on the training device. Zero, false or null turns a part off."""

    symmetries: bool = False  # the eight symmetries of the square; aerial images have no up
    crop_scale: list[float] | None = None  # random square crop: [smallest, largest] fraction of the image's area
    shift: float = 0.0  # random translation up to this fraction of the side, borders mirrored
    size: int | None = None  # pixels of the training images; null: data.image_size. Validation always sees the latter
    start_size: int | None = None  # pixels at the start, which then grow in steps of 16; smaller images train faster
    grow_epochs: float = 0.7  # share of the training after which the images have their full size
    brightness: float = 0.0  # gain drawn from [1 - b, 1 + b]
    contrast: float = 0.0  # likewise, about the image's mean grey
    saturation: float = 0.0  # likewise, about each pixel's grey
    hue: float = 0.0  # rotation of the colours by up to this fraction of a turn
    erasing: float = 0.0  # probability that a rectangle is blanked
    mixup: float = 0.0  # alpha of the Beta distribution that mixes two images
    cutmix: float = 0.0  # alpha of the Beta distribution of the pasted area; with mixup also set, each batch takes one
    mix_probability: float = 1.0  # share of the batches that are mixed
    mix_epochs: float = 1.0  # share of the training, from its start, during which batches are mixed


@dataclass
class TrainerConfig:
    """The training loop."""

    device: str = "auto"  # auto | cpu | cuda | cuda:N | mps
    epochs: int = 20  # passes over the training split
    batch_size: int = 64  # images per forward pass, of all processes together
    accumulate: int = 1  # forward passes per optimiser step
    optimizer: Literal["sgd", "adamw", "radam"] = "adamw"  # training/optim.py
    lr: float = 2e-3  # peak learning rate
    weight_decay: float = 1e-2  # of convolution, linear and attention weights alone
    momentum: float = 0.9  # sgd, with Nesterov's correction
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])  # adamw, radam
    scheduler: Literal["cosine", "one_cycle", "step", "plateau", "constant"] = "cosine"  # of the learning rate
    warmup_epochs: float = 1.0  # linear warm-up (one_cycle: length of the rise; constant: none)
    final_lr: float = 0.0  # cosine, one_cycle: fraction of lr at the end
    decay_epochs: int = 10  # step: epochs between decays; plateau: epochs without improvement before one
    decay_factor: float = 0.1  # step, plateau
    early_stopping: int | None = None  # stop after this many epochs without improvement of monitor
    monitor: Literal["val/accuracy", "val/loss"] = "val/accuracy"  # best checkpoint, early stopping, objective
    label_smoothing: float = 0.0  # share of the target spread over all classes
    class_weights: Literal["none", "balanced"] = "none"  # balanced: inverse class frequency of the training split
    clip_norm: float | None = None  # largest norm of the gradient
    ema: float | None = None  # decay per step of the averaged weights, which are then validated and exported
    checkpoint_steps: int | None = None  # write last.pt after so many steps too, not at the end of epochs alone
    checkpoint_minutes: float | None = 10.0  # likewise, after so many minutes
    resume: str = "never"  # never | auto: go on in this run folder | path of a checkpoint or run folder | unfinished:
    # go on in this run folder if it holds an interrupted run of this configuration, else replace what it holds
    deterministic: bool = False  # deterministic algorithms: bit-identical reruns on a GPU too
    log_every: int = 50  # steps between looks at the running loss; each look waits for the device
    limit_train_batches: int | None = None  # per epoch; for quick trials
    limit_val_batches: int | None = None  # likewise
    overfit_batches: int | None = None  # train and validate on the first so many training batches, unaugmented
    profile: bool = False  # write a trace of a few steps to <run>/profile/


@dataclass
class HardwareConfig:
    """How the arithmetic is done. ``auto`` and null decide from the device and the model; the choice is recorded."""

    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"  # of the arithmetic; weights stay fp32
    channels_last: bool | None = None  # memory layout NHWC, which convolutions prefer
    compile: bool = False  # torch.compile; slower for training on CPU
    num_threads: int | None = None  # CPU threads; null: torch's choice
    allocator: Literal["auto", "keep", "system"] = "auto"  # keep: glibc keeps freed memory (faster on CPU, larger peak)
    dataset_on_device: bool | None = None  # hold the whole packed split in device memory
    distributed: bool = False  # one of the processes that torchrun starts; each takes its share of every batch
    sync_batch_norm: bool = True  # distributed: batch norm over the whole batch, as in one process; else per share


@dataclass
class TrackingConfig:
    """Mirror of metrics.jsonl in Weights & Biases. The run never depends on it."""

    mode: Literal["off", "offline", "online"] = "off"  # offline: into the run folder, for `wandb sync`
    project: str = "landuse"  # W&B project
    entity: str | None = None  # W&B user or team; null: your default
    group: str | None = None  # gathers runs, such as those of one sweep
    tags: list[str] = field(default_factory=list)  # W&B tags
    log_model: bool = True  # send the exported model as an artifact, with the aliases latest and best
    timeout_s: float = 60.0  # seconds that a command waits for W&B at its end, at most


@dataclass
class EvaluationConfig:
    """What ``python -m landuse.evaluate`` does."""

    split: Literal["test", "val"] = "test"  # which images are measured
    robustness: bool = False  # measure under blur, noise and so on, by severity; `robustness=true` for short
    symmetries: bool = False  # test-time augmentation: average the probabilities over the eight symmetries
    batch_size: int | None = None  # null: the training batch size


@dataclass
class ExportConfig:
    """What ``python -m landuse.export`` does."""

    variants: list[str] = field(default_factory=lambda: ["fp32", "int8"])  # any of fp32, int8, pruned, pruned_int8
    layout: Literal["folder", "triton"] = "folder"  # triton: also a model repository for Triton and KServe
    max_difference: float = 1e-3  # of a probability, between PyTorch and the ONNX graph of the same weights
    max_accuracy_loss: float = 0.01  # on the validation split, compared with PyTorch; what loses more is refused
    keep_refused: bool = False  # write such a variant all the same
    measure: bool = True  # accuracy and speed of every variant; false: the graphs alone, for a model without its data
    calibration_images: int = 256  # of the training split, for the ranges of 8-bit integers
    prune: Literal["structured", "magnitude"] = "structured"  # whole channels, or single weights set to zero
    prune_amount: float = 0.3  # share of the channels or weights that goes
    prune_epochs: int = 20  # of training after that


@dataclass
class PredictConfig:
    """What ``python -m landuse.predict`` does."""

    format: Literal["table", "csv", "jsonl"] = "table"  # of the output; a table is for people
    output: str | None = None  # a file; null: stdout
    top_n: int = 1  # classes an image, the most probable first
    batch_size: int = 32  # images per forward pass
    num_workers: int | None = None  # threads that decode and predict; null: one a core


@dataclass
class ServeConfig:
    """What ``python -m landuse.serve`` does. Sizes and times bound what a stranger can make it spend.

    The key that clients must show is in the environment, as LANDUSE_API_KEY: configurations are written to files.
    """

    host: str = "127.0.0.1"  # 0.0.0.0: reachable from other machines
    port: int | None = None  # null: that of the environment's PORT, or 8000
    name: str = "landuse"  # of the model, in the addresses of the open inference protocol
    lanes: int | None = None  # batches at once; null: one a core
    threads: int = 1  # of one batch; lanes times threads should not exceed the cores
    max_batch: int = 8  # images of a batch, at most; on a CPU larger ones gain nothing
    max_queue: int = 128  # images that wait, at most; then requests are answered 429
    deadline_s: float = 10.0  # from the whole upload to the answer; then 503
    max_bytes: int = 20_000_000  # of a request
    max_pending_bytes: int = 256_000_000  # of all requests at once; then new ones are answered 429
    max_files: int = 32  # of a request
    max_pixels: int = 25_000_000  # of an image
    max_tiles: int = 2048  # of an image that is mapped
    map_deadline_s: float = 60.0  # from the whole upload to its map; then 503
    upload_timeout_s: float = 20.0  # for the headers, and for the body
    max_connections: int = 1000  # open at once; then new ones are closed
    drain_s: float = 30.0  # for requests under way when it is told to stop
    cors_origins: list[str] = field(default_factory=list)  # web sites whose pages may call it, such as https://map.org
    log_format: Literal["json", "text"] = "json"  # on stderr, a line an event
    traces: str | None = None  # address of an OpenTelemetry collector (OTLP over HTTP), such as http://host:4318


@dataclass
class MapConfig:
    """What ``python -m landuse.map`` does."""

    stride: float = 0.5  # from tile to tile: up to 1 a share of the tile's side (1: no overlap), above it pixels
    symmetries: bool = False  # average the probabilities over the eight symmetries of a tile; eight times the work
    min_confidence: float = 0.0  # below it a place is "unclassified"
    gsd: float | None = None  # metres a pixel of the scene measures; null: as its georeference says
    tile_m: float | None = None  # metres that the side of a tile measures; null: as the model's images
    crs: str | None = None  # coordinate system of a scene that names none, such as EPSG:32633
    bands: list[str] = field(default_factory=list)  # red, green, blue by number or name, or one; empty: as marked
    value_range: list[float] | None = None  # [low, high] that become 0 and 255; null: the model's, or percentiles
    polygons: Literal["gpkg", "geojson", "off"] = "gpkg"  # GeoPackage, or GeoJSON in longitude and latitude
    colours: dict[str, str] = field(default_factory=dict)  # of classes, such as {river: "#3366cc"}; others are chosen
    evaluation: str | None = None  # evaluation.json whose confusion corrects the areas; null: that of the run
    batch_size: int | None = None  # tiles per forward pass; null: 32 on a CPU, 128 on a GPU
    num_workers: int | None = None  # threads that classify, beside one that reads; null: one a core
    merge: bool = False  # join the parts of all shards; `merge` for short


@dataclass
class DriftConfig:
    """What counts as drift: images unlike those that the model was validated on."""

    window: int = 200  # of the newest images that are compared
    min_images: int = 50  # fewer tell nothing
    alpha: float = 0.001  # probability of an alarm although nothing has changed, over all tests of a window
    share: float = 0.1  # of a core that a service spends on it at most: under load it looks at a part of the images


@dataclass
class StorageConfig:
    """What ``python -m landuse.storage`` checks."""

    remote: str | None = None  # name of a DVC remote; null: DVC's default remote
    url: str | None = None  # gs://bucket/prefix, checked instead of a remote of DVC
    needs: Literal["read", "write"] = "read"  # what the account must be allowed; write: `dvc push` as well as pull
    new_prefix: bool = False  # true: a prefix that holds nothing yet is no mistake
    timeout_s: float | None = None  # for the network; null: what is left of two seconds, 0.6 at least


@dataclass
class LogConfig:
    """What commands say, and what the log files in run folders keep."""

    level: Literal["debug", "info", "warning", "error"] = "info"  # on stderr
    file_level: Literal["debug", "info", "warning", "error"] = "debug"  # in train.log and evaluate.log


@dataclass
class ReportConfig:
    """What ``python -m landuse.report`` does."""

    check: bool = False  # say whether run= is complete and fit to be cited; `report check` for short


@dataclass
class Config:
    """The whole tree; one for every command."""

    seed: int = 0  # initialisation, data order and augmentation; the split has data.split.seed
    experiment_name: str = "${data.name}_${model.name}"  # folder under outputs/<command>/
    run_name: str = "${now:%Y-%m-%d_%H-%M-%S}"  # folder under outputs/<command>/<experiment_name>/
    outputs: str = "outputs"  # root of all run folders; <outputs>/latest points at the newest training run
    run: str | None = None  # a run folder or its model/, or wandb:entity/project/name:alias; null: <outputs>/latest
    variant: str = "fp32"  # predict, serve, drift, map: which export of the run
    input: str | None = None  # predict, drift, map: an image, a folder, a pattern, or - for a list of files on stdin
    output: str | None = None  # map: the folder that the map is written to
    shard: str | None = None  # map: i/n does the i-th of n parts, from 1/n to n/n; `merge` joins them
    runs: list[str] = field(default_factory=list)  # report: compare these run folders; *, ? and ** find several
    model: ModelConfig = field(default_factory=ModelConfig)  # group model=
    data: DataConfig = field(default_factory=DataConfig)  # group data=
    augment: AugmentConfig = field(default_factory=AugmentConfig)  # group augment=
    trainer: TrainerConfig = field(default_factory=TrainerConfig)  # group trainer=
    hardware: HardwareConfig = field(default_factory=HardwareConfig)  # group hardware=
    tracking: TrackingConfig = field(default_factory=TrackingConfig)  # group tracking=
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)  # keys of the command evaluate
    export: ExportConfig = field(default_factory=ExportConfig)  # keys of the command export
    predict: PredictConfig = field(default_factory=PredictConfig)  # keys of the command predict
    serve: ServeConfig = field(default_factory=ServeConfig)  # keys of the command serve
    map: MapConfig = field(default_factory=MapConfig)  # keys of the command map
    drift: DriftConfig = field(default_factory=DriftConfig)  # keys of the command drift, and of the service
    log: LogConfig = field(default_factory=LogConfig)  # what is said and kept
    storage: StorageConfig = field(default_factory=StorageConfig)  # keys of the command storage
    report: ReportConfig = field(default_factory=ReportConfig)  # keys of the command report


MODEL_KINDS: dict[str, type[ModelConfig]] = {
    "cnn": CNNConfig,
    "slim_resnet": SlimResNetConfig,
    "torchvision": TorchvisionConfig,
    "custom": CustomModelConfig,
}

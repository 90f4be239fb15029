"""Exported models on disk: where they are, and made where they are missing."""

import hashlib
import importlib.util
import logging
import os
import subprocess
import sys
from pathlib import Path

from landuse import runs
from landuse.config.overrides import quoted
from landuse.config.schema import Config, CustomModelConfig
from landuse.errors import FailureError, UserError
from landuse.files import locked, read_mapping
from landuse.serving.artifact import DESCRIPTION_FILE, LARGEST_DESCRIPTION, MODEL_FILE

log = logging.getLogger(__name__)

EXPORT = "export"
STDERR = 2  # for the export's words: stdout carries predictions


def find_exported(config: Config) -> Path:
    """The folder of the export ``variant`` of ``run=``, which is made anew where it is missing or of older weights.

    ``run=`` may also name an exported folder itself, such as the copy in a container.

    Raises:
        UserError: there is no such run, or it cannot be exported here.
        FailureError: the export failed.
    """
    require_extra("serve", "onnxruntime")
    if config.run is not None and (given := runs.followed(Path(config.run)) / DESCRIPTION_FILE).is_file():
        _require_variant(given.parent, config.variant)
        return given.parent.resolve()
    run = runs.find(config.run, Path(config.outputs), config.tracking.timeout_s)
    _require_run(run)
    folder = run / EXPORT / config.variant
    if is_current(folder, run):
        _warn_of_no_data(folder)
        return folder
    if importlib.util.find_spec("torch") is None:
        raise UserError(
            f"{run} has no export {config.variant} of its present weights, and without torch none can be made here: "
            f"run python -m landuse.export where it was trained, and give run=PATH/export/{config.variant}."
        )
    name = hashlib.sha256(str(run).encode("utf-8", "surrogateescape")).hexdigest()[:12]
    with locked(Path(config.data.home), f"export-{name}"):  # of several that start at once, one makes it
        if not is_current(folder, run):
            _make(config, run)
    if not is_current(folder, run):
        raise FailureError("The model could not be exported, see above.")
    return folder


def _require_variant(folder: Path, asked: str) -> None:
    """fp32 is what nobody has to ask for."""
    variant = read_mapping(folder / DESCRIPTION_FILE, LARGEST_DESCRIPTION).get("variant")
    if asked not in ("fp32", variant):
        raise UserError(
            f"{folder} is the export {variant}, and variant={asked} asks for another: leave out one of them."
        )


def _require_run(folder: Path) -> None:
    if (folder / "config.yaml").is_file():
        return
    if (folder / MODEL_FILE).is_file():
        raise UserError(f"{folder} is no complete export: it lacks {DESCRIPTION_FILE}. Export the run again.")
    exported = sorted(path.parent for path in folder.glob(f"*/{DESCRIPTION_FILE}"))
    choices = f" One of its folders can be named: {', '.join(map(str, exported))}." if exported else ""
    raise UserError(
        f"{folder} is no run folder (it has no config.yaml) and no export: run= must name what training or "
        f"landuse.export wrote.{choices}"
    )


def _make(config: Config, run: Path) -> None:
    """Export in a process of its own, so that this one needs no torch."""
    training = ", which trains it a little more" if config.variant.startswith("pruned") else ""
    log.info("%s has no export %s of its present weights yet; making it%s", run, config.variant, training)
    line = [
        sys.executable, "-m", "landuse.export", f"run={quoted(str(run))}", f"export.variants=[{config.variant}]",
        "export.measure=false", f"data.home={quoted(config.data.home)}", *_custom_model(config),
    ]  # fmt: skip
    environment = os.environ | {"HYDRA_FULL_ERROR": "0"}  # which this process has set for itself
    finished = subprocess.run(line, stdin=subprocess.DEVNULL, stdout=STDERR, check=False, env=environment)
    if finished.returncode == 2:
        raise UserError("The model could not be exported, for the reason above.")


def named_network(config: Config) -> CustomModelConfig | None:
    """The user's own class of network, where this very command line names one; a run's folder may not."""
    return config.model if isinstance(config.model, CustomModelConfig) and config.model.target is not None else None


def _custom_model(config: Config) -> list[str]:
    network = named_network(config)
    return [] if network is None else ["model=custom", f"model.target={quoted(str(network.target))}"]


def _warn_of_no_data(folder: Path) -> None:
    facts = read_mapping(folder / DESCRIPTION_FILE, LARGEST_DESCRIPTION).get("facts")
    if not isinstance(facts, dict) or "val_accuracy" not in facts:
        log.warning(
            "%s was made without the run's data: its probabilities are not calibrated. To mend that: python -m "
            "landuse.export run=PATH data.home=PATH", folder,
        )  # fmt: skip


def is_current(folder: Path, run: Path) -> bool:
    """Whether an exported folder holds the run's present weights."""
    served = read_mapping(folder / DESCRIPTION_FILE, LARGEST_DESCRIPTION)
    trained = read_mapping(run / "model" / "model.json", LARGEST_DESCRIPTION)
    source = served.get("source")
    return isinstance(source, dict) and source.get("weights_sha256") == trained.get("weights_sha256", "")


def require_extra(extra: str, *modules: str) -> None:
    """Make sure that an optional part is installed.

    Raises:
        UserError: it is not.
    """
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise UserError(f"This command needs {module}, which is not installed: pip install 'landuse[{extra}]'.")

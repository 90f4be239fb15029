"""python -m landuse.reproduce: train ``run=`` again and compare every epoch and every weight."""

import dataclasses
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from landuse import runs, training_run
from landuse.cli import Invocation, leave, no_empty_folder, run_command
from landuse.config import compose
from landuse.config.devices import DEVICE_FORM, has_mps, num_cuda_devices
from landuse.config.processes import Place
from landuse.config.schema import Config, CustomModelConfig
from landuse.config.validate import validate
from landuse.errors import DifferentError, UserError
from landuse.files import write_json
from landuse.tracking import logs

if TYPE_CHECKING:
    from landuse.evaluation.report.files import RunFiles
    from landuse.tracking.comparison import Difference

log = logging.getLogger(__name__)

RESULT = "reproduction.json"
MAY_CHANGE = ("trainer.device", "trainer.profile", "hardware.")  # within a run, and it can still be made in one go
# What build_runtime decided and provenance.json keeps -> whether a value is one that it can have decided.
DECIDED: dict[str, Callable[[Any], bool]] = {
    "precision": lambda value: value in ("fp32", "bf16", "fp16"),
    "channels_last": lambda value: isinstance(value, bool),
    "compile": lambda value: isinstance(value, bool),
    "num_threads": lambda value: type(value) is int,
    "allocator": lambda value: value in ("keep", "system"),
}


def reproduce(config: Config, call: Invocation) -> dict[str, Any]:
    """Train ``run=`` (by default the newest run) again from its start, in a folder of its own, and compare.

    Configuration, hardware choices and data are those of the run, unless the command line says otherwise.

    Returns:
        The content of ``<outputs>/reproduce/<experiment>/<run>/reproduction.json``.

    Raises:
        UserError: no such run, one that cannot be made again in one go, or other data.
        DifferentError: the training came out different.
    """
    logs.to_stderr(config.log)
    if Place.find().size > 1:
        raise UserError("reproduce trains and compares in one process: start it without torchrun.")
    folder = runs.find(config.run, Path(config.outputs), config.tracking.timeout_s)
    config = _configuration(runs.read_config(folder), call, folder)

    from landuse.evaluation.report.files import read_run
    from landuse.tracking import comparison

    run = read_run(folder)
    _require_repeatable(run)
    weights, description = comparison.read_weights(folder), _described(folder)
    _warn_of_changed_weights(folder)
    _take_hardware(config, run.provenance.get("hardware"), call)
    validate(config)
    target = _own_folder(folder, config, call)
    log.info("reproduce   %s in %s", folder, target)

    def check(now: dict[str, Any]) -> None:
        _require_same_data(run.provenance, now)
        _clear_other_part(target, now)
        _say(_differences(run, config, now))

    # One that was killed before its result is no finished run yet: what it was made with is looked at as well.
    (target / "summary.json").unlink(missing_ok=True)
    with no_empty_folder(target, Path(config.outputs)):
        training_run.run(config, dataclasses.replace(call, output_dir=target), check)
    repeated = read_run(target)
    _require_same_data(run.provenance, repeated.provenance)
    differences = _differences(run, config, repeated.provenance)
    trainings = (run.history, weights), (repeated.history, comparison.read_weights(target))
    result = comparison.compare(*trainings, (description, _described(target)))
    content = result.to_json() | {
        "run": str(folder),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment_differences": [dataclasses.asdict(difference) for difference in differences],
    }
    write_json(target / RESULT, content)
    log.info("result      %s", target / RESULT)
    if not result.identical:
        raise DifferentError(f"{folder} was not reproduced: {result}. {_hint(config, repeated, differences)}")
    log.info("identical   %s", result)
    return content


def _configuration(run_tree: dict[str, Any], call: Invocation, folder: Path) -> Config:
    """The run's configuration under this command line, to be trained from the start or to go on where this stopped."""
    model = run_tree.get("model")
    is_custom = isinstance(model, dict) and model.get("kind") == "custom"
    # model=custom alone means no other model: its parameters and its name are the run's unless they are given.
    overrides = [override for override in call.overrides if not (is_custom and override == "model=custom")]
    config = compose.overlay(run_tree, call.composed, overrides)
    if isinstance(config.model, CustomModelConfig) and not call.names("model.target"):
        from landuse.tracking.comparison import shown

        raise UserError(
            f"{folder} is of a model of the user's own class, and a class named there is not imported. If you trust "
            f"it, add: model=custom model.target={shown(config.model.target)}"
        )
    config.trainer.resume = "auto"
    config.tracking = compose.to_config(call.composed).tracking
    return config


def _require_repeatable(run: "RunFiles") -> None:
    """Refuse what did not finish, and what was not made under one configuration from a start of its own.

    Raises:
        UserError: says which, and what to do.
    """
    from landuse.tracking.comparison import shown

    if (status := run.summary["status"]) != "completed":
        raise UserError(
            f"{run.folder} is no finished run (status: {shown(status)}): let it finish with "
            f"hydra.run.dir={run.folder} trainer.resume=auto, or give another run=PATH."
        )
    parts = run.provenance.get("resumed_from")
    if "resumed_from" not in run.provenance:  # of an older version, which kept the last command's word alone
        resume = compose.from_tree(run.config).trainer.resume
        parts = [] if resume in ("never", "auto", "unfinished") else [{"checkpoint": resume}]
    for part in parts if isinstance(parts, list) else []:
        changed = part.get("changed") if isinstance(part, dict) else None
        if not isinstance(changed, dict):
            checkpoint = shown(part.get("checkpoint") if isinstance(part, dict) else part)
            raise UserError(
                f"{run.folder} went on from a checkpoint of another run ({checkpoint}), so it cannot be reproduced in "
                "one go: give run= one that began by itself."
            )
        for key in (key for key in changed if not str(key).startswith(MAY_CHANGE)):
            raise UserError(
                f"{run.folder} went on after epoch {shown(part.get('epoch'))} under another configuration "
                f"({shown(key)}: first, then {shown(changed[key])}), so it cannot be reproduced in one go: train it "
                "anew, and reproduce that."
            )


def _warn_of_changed_weights(folder: Path) -> None:
    from landuse.models.description import model_fingerprint, read_description

    if model_fingerprint(folder / "model") != read_description(folder / "model").weights_sha256:
        log.warning("model: model.safetensors is not the file that model.json describes: changed after the training")


def _described(run: Path) -> dict[str, Any]:
    """What model.json says of the weights: the same ones with other class names are another model."""
    from landuse.models.description import architecture_of, read_description

    model = read_description(run / "model")
    # Where a class of the user's own is found is for each command line to say.
    architecture = {key: value for key, value in architecture_of(model.config).items() if key != "target"}
    keys = ("classes", "image_size", "mean", "std")
    return {"architecture": architecture, **{key: getattr(model, key) for key in keys}}


def _take_hardware(config: Config, recorded: Any, call: Invocation) -> None:
    """Decide as it was decided for the run, where this machine can and the command line does not say otherwise."""
    if not isinstance(recorded, dict) or {"experiment", "debug"} & set(_typed(call)):
        return
    device = recorded.get("device")
    if isinstance(device, str) and not call.names("trainer.device"):
        config.trainer.device = device if _is_there(device) else "auto"
    for key, is_choice in DECIDED.items():
        value = recorded.get(key)
        is_asked = call.names("hardware") or call.names(f"hardware.{key}")
        has_no_use = value == "fp16" and not config.trainer.device.startswith("cuda")
        if is_choice(value) and not is_asked and not has_no_use:
            setattr(config.hardware, key, value)


def _typed(call: Invocation) -> list[str]:
    return [override.lstrip("+~").partition("=")[0] for override in call.overrides]


def _is_there(device: str) -> bool:
    if not DEVICE_FORM.fullmatch(device):
        return False
    kind, _, index = device.partition(":")
    if kind == "cuda":
        return num_cuda_devices() > int(index or 0)
    return has_mps() if kind == "mps" else True


def _own_folder(run: Path, config: Config, call: Invocation) -> Path:
    """Where this reproduction is or will be: the first folder that holds neither a result nor another training.

    It is named like the run; jobs of a multirun, whose folders are numbers, like that with the number.
    """
    is_job = run.parent.name != config.experiment_name
    name = f"{config.run_name}-{run.name}" if is_job else run.name
    if call.names("run_name"):
        name = config.run_name
    base = Path(config.outputs).resolve() / "reproduce" / config.experiment_name
    numbered = (base / (name if number == 1 else f"{name}-{number}") for number in count(1))

    def is_free(folder: Path) -> bool:
        has_other = (folder / "config.yaml").exists() and not runs.is_of(folder, config)
        return folder != run and not (folder / RESULT).exists() and not has_other

    return next(filter(is_free, numbered))


def _require_same_data(then: dict[str, Any], now: dict[str, Any]) -> None:
    from landuse.tracking import comparison

    if different := comparison.data(then, now):
        raise UserError(
            f"The data are not those of the run ({'; '.join(map(str, different))}), so it cannot be reproduced: give "
            "them with data.root=PATH, data.archive.url=ADDRESS or data.home=PATH, and no other data.* keys."
        )


def _clear_other_part(target: Path, now: dict[str, Any]) -> None:
    """A reproduction that was interrupted goes on only as what it was; made by other code, it would prove nothing."""
    from landuse.tracking import comparison, provenance

    earlier = provenance.read(target)
    different = [difference for difference in comparison.environment(earlier, now) if not difference.note]
    if earlier and different:
        log.warning("what an interrupted reproduction left was made otherwise (%s): it begins anew", different[0])
        runs.clear(target)


def _differences(run: "RunFiles", config: Config, now: dict[str, Any]) -> list["Difference"]:
    from landuse.tracking import comparison

    then_config = runs.comparable(runs.to_tree(compose.from_tree(run.config)))
    return [
        *comparison.environment(run.provenance, now),
        *comparison.configuration(then_config, runs.comparable(runs.to_tree(config))),
    ]


def _say(differences: list["Difference"]) -> None:
    for difference in differences:
        log.warning("%s", difference)
    if not differences:
        log.info("the same    code, configuration, lock, versions, machine, hardware and data as then")


def _hint(config: Config, repeated: "RunFiles", differences: list["Difference"]) -> str:
    """What the difference may come from."""
    if differences:
        return (
            f"What else is different: {'; '.join(sorted({difference.what for difference in differences}))}, see above."
        )
    if str(repeated.provenance["hardware"]["device"]) != "cpu" and not config.trainer.deterministic:
        return "On a GPU only trainer.deterministic=true promises the same weights."
    return "Nothing else is different, so the run's files were changed or the machine does not compute the same twice."


def main() -> None:
    """Entry point of landuse-reproduce."""
    run_command("reproduce", reproduce)


if __name__ == "__main__":
    main()
    leave()

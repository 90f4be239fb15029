"""python -m landuse.export: ONNX graphs of a run's model, proven to answer as it does, and compared in a table."""

import dataclasses
import logging
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from landuse import runs
from landuse.cli import Invocation, leave, run_command
from landuse.config.ground import Ground, read_ground
from landuse.config.schema import Config, DataConfig
from landuse.config.validate import validate
from landuse.config.validate_service import validate_export
from landuse.errors import FailureError, UserError
from landuse.exports import EXPORT, require_extra
from landuse.tracking import logs
from landuse.trained import configuration, open_model, require_same_classes

if TYPE_CHECKING:
    from landuse.data.pack import Pack
    from landuse.exporting.variants import Source, Variant
    from landuse.models.export import LoadedModel

log = logging.getLogger(__name__)


def export(config: Config, call: Invocation) -> None:
    """Write ``<run>/export/<variant>/`` for each of ``export.variants`` of ``run=`` (by default the newest run).

    Raises:
        UserError: no such run, no data where they are needed, or a model that cannot be exported this way.
        FailureError: a graph does not answer as the model does, or a variant was refused for its accuracy.
    """
    logs.to_stderr(config.log)
    require_extra("export", "onnx", "onnxruntime", "onnxscript")
    if call.names("variant"):
        raise UserError(f"variant= is of predict, serve and drift; here it is export.variants=[{config.variant}].")
    folder = runs.find(config.run, Path(config.outputs), config.tracking.timeout_s)
    config = configuration(folder, call)
    validate_export(config)
    if not call.names("trainer.device"):  # the machine that trained may have had another
        config.trainer.device = "auto"
    needs_data = config.export.measure
    validate(config if needs_data else dataclasses.replace(config, data=DataConfig(image_size=config.data.image_size)))
    if {"pruned", "pruned_int8"} & set(config.export.variants) and config.export.prune == "structured":
        require_extra("export", "torch_pruning")

    from landuse.exporting import table
    from landuse.exporting.folders import claimed

    with claimed(folder / EXPORT):
        logs.to_file(folder / EXPORT / "export.log")
        source = _open(config, call, folder)
        table.remove(folder / EXPORT)  # of what will not be there any more
        variants: list[Variant] = []
        problem = None
        try:
            _write(source, variants)
        except (UserError, FailureError) as error:  # of a later one; the earlier are there
            problem = error
        if config.export.measure and variants:
            _compare(source, variants)
        if problem is not None:
            raise problem
    if refused := [variant.problem for variant in variants if variant.problem and not variant.is_written]:
        raise FailureError(f"Not written: {'; '.join(refused)}. To write such a variant: export.keep_refused=true.")


def _open(config: Config, call: Invocation, folder: Path) -> "Source":
    """The run's model, and its data where they are at hand."""
    from landuse.data.workers import num_workers
    from landuse.exporting.variants import Source
    from landuse.training.device import build_runtime

    model = open_model(folder, config, call)
    if config.data.image_size != model.image_size:
        raise UserError(
            f"data.image_size={config.data.image_size}, but the model was made at {model.image_size} px, which its "
            "graph is for: leave the key out."
        )
    if config.hardware.num_threads is None or not call.names("hardware.num_threads"):  # all of this machine's
        config.hardware.num_threads = num_workers()
    build_runtime("cpu", dataclasses.replace(config.hardware, precision="fp32", compile=False), model.model)
    pack = _data(config, model)
    return Source(folder, config, model, pack, config.hardware.num_threads, _ground(config, call, model, pack))


def _data(config: Config, model: "LoadedModel") -> "Pack | None":
    from landuse.data.pack import prepare
    from landuse.exporting.data import packed_before

    if config.export.measure:
        pack = prepare(config.data)
        require_same_classes(model.classes, pack.classes)
        if pack.split_fingerprint != model.info["extra"].get("split_fingerprint"):
            raise UserError(
                "These images are not split as the run's were, so that the model may have been trained on those that "
                "it would be calibrated and judged on: give the run's own data (data.home=, data.split.files=), or "
                "export.measure=false."
            )
        return pack
    found = packed_before(Path(config.data.home), model)
    if found is None:
        log.warning(
            "The run's data are not below data.home=%s: probabilities stay as they are, uncalibrated, and random "
            "images take the place of the validation split", config.data.home,
        )  # fmt: skip
    return found


def _ground(config: Config, call: Invocation, model: "LoadedModel", pack: "Pack | None") -> Ground:
    """What this command line says of the images, else what training wrote, else the run's configuration or its pack."""
    trained, data = read_ground(model.info["extra"]), config.data
    gsd = data.gsd if call.names("data.gsd") or trained.gsd is None else trained.gsd
    tile_size = data.tile_size if call.names("data.tile_size") or trained.tile_size is None else trained.tile_size
    if tile_size is None and pack is not None:
        tile_size = pack.tile_size
    return Ground(gsd, tile_size)


def _write(source: "Source", variants: "list[Variant]") -> None:
    """Add all variants that are asked for, each in its folder as soon as it was accepted."""
    from landuse.exporting.folders import building
    from landuse.exporting.pruning import num_nonzero, pruned
    from landuse.exporting.variants import float_variant, int8_variant

    config, model, place = source.config, source.model, source.run / EXPORT
    asked = config.export.variants
    with ExitStack() as stack:
        for name, in_integers in (("fp32", "int8"), ("pruned", "pruned_int8")):
            if not {name, in_integers} & set(asked):  # the one is made of the other
                continue
            new = stack.enter_context(building(place, name))
            network, num_parameters = model.model, model.info["num_parameters"]
            if name == "pruned":
                if source.pack is None:
                    raise UserError(
                        f"pruned is trained, and the run's data are not below data.home={config.data.home}: give the "
                        "right data.home, or leave out export.measure=false."
                    )
                network = pruned(config, network, source.pack)
                num_parameters = num_nonzero(network)
            base = float_variant(source, name, network, num_parameters, new)
            if name in asked:
                variants.append(_judged(source, base))
            if in_integers in asked:
                new = stack.enter_context(building(place, in_integers))
                variants.append(_judged(source, int8_variant(source, in_integers, base, new)))


def _judged(source: "Source", variant: "Variant") -> "Variant":
    """The variant in its final folder, unless it was refused."""
    from landuse.exporting.folders import publish, remove
    from landuse.exporting.triton import write_model
    from landuse.exporting.variants import judge
    from landuse.serving.engine import Engine

    judge(source, variant)
    if variant.problem is not None:
        if not source.config.export.keep_refused:
            log.warning("not written: %s", variant.problem)
            remove(source.run / EXPORT / variant.name)  # one of earlier weights or settings must not pass for it
            return variant
        log.warning("%s; written all the same", variant.problem)
    target = source.run / EXPORT / variant.name
    publish(variant.folder, target)
    variant.folder, variant.is_written = target, True
    log.info("written     %s", target)
    if source.config.export.layout == "triton":
        name = f"{source.config.serve.name}_{variant.name}"
        log.info("written     %s", write_model(source.run / EXPORT, Engine(target, source.num_threads), name))
    return variant


def _compare(source: "Source", variants: "Sequence[Variant]") -> None:
    from landuse.exporting.comparison import compare

    log.info("%s", compare(source, variants))
    log.info("result      %s", source.run / EXPORT / "export.md")


def main() -> None:
    """Entry point of landuse-export."""
    run_command("export", export)


if __name__ == "__main__":
    main()
    leave()

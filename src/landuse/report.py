"""python -m landuse.report: the page of ``run=``, of several ``runs=`` beside each other, or a check of ``run=``."""

import logging
from pathlib import Path
from typing import Any

from landuse import runs
from landuse.cli import Invocation, run_command
from landuse.config import compose
from landuse.config.schema import Config
from landuse.errors import FailureError, UserError
from landuse.tracking import logs

log = logging.getLogger(__name__)

LONGEST_NAME = 80  # characters


def report(config: Config, call: Invocation) -> None:
    """Write the report of ``run=`` (by default the newest run) or of ``runs=``, or check it (``report check``).

    Raises:
        UserError: no such run, or its files cannot be read.
        FailureError: the run that was checked is not fit to be cited.
    """
    logs.to_stderr(config.log)
    if config.runs:
        if config.report.check or config.run is not None:
            raise UserError("runs= compares several runs: leave out run= and check.")
        _compare(config)
        return
    folder = runs.find(config.run, Path(config.outputs), config.tracking.timeout_s)
    if config.report.check:
        _check(folder)
        return
    runs.require_own_figures(folder)
    from landuse.evaluation.report import report_run

    log.info("report      %s", report_run(folder))


def _compare(config: Config) -> None:
    from landuse.evaluation.comparing import compare_runs

    folders: list[Path] = []
    for asked in config.runs:
        names = _matches(asked) if any(sign in asked for sign in "*?[") else [asked]
        found = [runs.find(name, Path(config.outputs), config.tracking.timeout_s) for name in names]
        if not found:
            raise UserError(f"runs={asked}: there is no run folder of that name.")
        folders += [folder for folder in found if folder not in folders]
    name = "-vs-".join([folder.name for folder in folders[:3]] + (["others"] if len(folders) > 3 else []))
    page = compare_runs(folders, Path(config.outputs) / "comparisons" / name[:LONGEST_NAME])
    log.info("report      %s", page)


def _matches(pattern: str) -> list[str]:
    """The run folders that a pattern with wildcards means."""
    path = Path(pattern)
    found = Path(path.anchor).glob(str(path.relative_to(path.anchor)))
    return sorted(str(folder) for folder in found if (folder / "config.yaml").is_file() and not folder.is_symlink())


def _check(folder: Path) -> None:
    from landuse.evaluation.report.check import check_run

    findings = check_run(folder, _computed(folder), _seeds(folder))
    for finding in findings:
        log.info("%s", finding)
    if wrong := [finding.what for finding in findings if not finding.is_right]:
        raise FailureError(f"{folder} is not fit to be cited: {', '.join(wrong)}.")
    log.info("fit to be cited: %s", folder)


def _computed(folder: Path) -> dict[str, str]:
    from landuse.models.description import model_fingerprint
    from landuse.tracking.provenance import config_hash

    computed = {"config_hash": config_hash(compose.from_tree(runs.read_config(folder)))}
    if (folder / "model" / "model.safetensors").is_file():
        computed["model_fingerprint"] = model_fingerprint(folder / "model")
    return computed


def _seeds(folder: Path) -> dict[str, list[Any]]:
    """Runs beside this one that differ in their seed alone, and this one."""
    from landuse.evaluation.comparing.reading import Compared
    from landuse.evaluation.report.files import read_run

    def read(path: Path) -> Compared | None:
        try:
            return Compared(path.name, read_run(path))
        except UserError:
            return None

    own = read(folder)
    if own is None:
        return {}
    found = [own, *(one for path in sorted(folder.parent.iterdir()) if path != folder and (one := read(path)))]
    same: dict[Any, float] = {}
    for one in found:
        evaluation = one.evaluation
        if evaluation is None or own.evaluation is None or one.without_seed != own.without_seed:
            continue
        if evaluation["split_fingerprint"] == own.evaluation["split_fingerprint"]:
            same.setdefault(one.config.get("seed"), evaluation["accuracy"])
    return {"seeds": list(same), "accuracies": list(same.values())}


def main() -> None:
    """Entry point of landuse-report."""
    run_command("report", report)


if __name__ == "__main__":
    main()

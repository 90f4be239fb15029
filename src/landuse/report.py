"""python -m landuse.report: the page of ``run=``, of several ``runs=`` beside each other, or a check of ``run=``."""

import hashlib
import logging
from contextlib import suppress
from pathlib import Path

from landuse import runs
from landuse.cli import Invocation, run_command
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
        is_pattern = any(sign in asked for sign in "*?[") and not Path(asked).is_dir()
        names = _matches(asked) if is_pattern else [asked]
        found = [runs.find(name, Path(config.outputs), config.tracking.timeout_s) for name in names]
        if not found:
            raise UserError(f"runs={asked}: there is no run folder of that name.")
        folders += [folder for folder in found if folder not in folders]
    # A name that can be read, and one hash that tells sets of runs apart.
    name = "-vs-".join([folder.name for folder in folders[:3]] + (["others"] if len(folders) > 3 else []))
    digest = hashlib.sha256("\0".join(sorted(map(str, folders))).encode()).hexdigest()
    page = compare_runs(folders, Path(config.outputs) / "comparisons" / f"{name[:LONGEST_NAME]}-{digest[:8]}")
    log.info("report      %s", page)


def _matches(pattern: str) -> list[str]:
    """The run folders that a pattern with wildcards means."""
    path = Path(pattern)
    try:
        found = list(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
    except ValueError as error:
        raise UserError(f"runs={pattern}: {error}.") from error
    return sorted(str(folder) for folder in found if (folder / "config.yaml").is_file() and not folder.is_symlink())


def _check(folder: Path) -> None:
    from landuse.evaluation.report.check import NEEDED, check_run, missing_files

    is_readable = not NEEDED & set(missing_files(folder))
    findings = check_run(folder, _computed(folder), _seeds(folder)) if is_readable else check_run(folder, {}, {})
    for finding in findings:
        log.info("%s", finding)
    if wrong := [finding.what for finding in findings if finding.is_right is False]:
        raise FailureError(f"{folder} is not fit to be cited: {', '.join(wrong)}.")
    log.info("fit to be cited: %s", folder)


def _computed(folder: Path) -> dict[str, str]:
    from landuse.models.description import model_fingerprint
    from landuse.tracking.provenance import config_hash

    computed = {"config_hash": config_hash(runs.read_config(folder))}
    if (folder / "model" / "model.safetensors").is_file():
        computed["model_fingerprint"] = model_fingerprint(folder / "model")
    return computed


def _seeds(folder: Path) -> dict[str, float]:
    """Test accuracy by seed, of this run and of those beside it that differ in their seed alone."""
    from landuse.evaluation.comparing.reading import Compared, over_seeds
    from landuse.evaluation.report.files import read_run

    found = []
    for path in (folder, *sorted(folder.parent.iterdir())):
        with suppress(UserError, OSError):
            if (path / "summary.json").is_file():
                found.append(Compared(path.name, read_run(path)))
    own = [group for group in over_seeds(found) if any(one.files.folder == folder for one in group.values())]
    return {seed: one.evaluation["accuracy"] for group in own for seed, one in group.items() if one.evaluation}


def main() -> None:
    """Entry point of landuse-report."""
    run_command("report", report)


if __name__ == "__main__":
    main()

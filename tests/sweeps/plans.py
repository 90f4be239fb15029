"""Plans of sweeps without a training, and what a training would leave behind."""

import json
from pathlib import Path
from typing import Any

from landuse.sweeps.objective import objectives
from landuse.sweeps.plan import Plan
from landuse.sweeps.space import parse_space
from landuse.sweeps.study import Sweep

SAMPLERS = {
    "tpe": {"_target_": "optuna.samplers.TPESampler", "seed": 0, "n_startup_trials": 3},
    "random": {"_target_": "optuna.samplers.RandomSampler", "seed": 0},
    "grid": {"_target_": "optuna.samplers.GridSampler"},
    "qmc": {"_target_": "optuna.samplers.QMCSampler", "seed": 0, "scramble": True},
    "nsgaii": {"_target_": "optuna.samplers.NSGAIISampler", "seed": 0},
}
MEDIAN = {"_target_": "optuna.pruners.MedianPruner", "n_startup_trials": 1, "n_warmup_steps": 0}
NO_PRUNER = {"_target_": "optuna.pruners.NopPruner"}


def make_plan(folder: Path, *swept: str, sampler: str = "random", **changes: Any) -> Plan:
    """A plan of 4 trials in ``folder/s``."""
    settings: dict[str, Any] = {
        "name": "s", "folder": folder / "s", "storage": None, "objectives": objectives(None, "val/accuracy"),
        "monitor": "val/accuracy", "space": parse_space({}, swept or ("lr=interval(0.1,0.9)", "width=range(1,100)")),
        "base": {"seed": 0}, "n_trials": 4, "n_jobs": 1, "max_failures": 2, "sampler": SAMPLERS[sampler],
        "pruner": NO_PRUNER,
    }  # fmt: skip
    return Plan(**(settings | changes))


def leave_run(sweep: Sweep, number: int, status: str = "completed", accuracy: float = 0.5) -> None:
    """Write what a training of trial ``number`` leaves."""
    run = sweep.run_folder(number)
    run.mkdir(parents=True, exist_ok=True)
    epochs = [{"epoch": i, "val/accuracy": accuracy} for i in range(2)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(epoch) + "\n" for epoch in epochs))
    summary = {"status": status, "val/accuracy": accuracy, "val/loss": 1.0, "parameters": 100, "epochs": 2}
    (run / "summary.json").write_text(json.dumps(summary))


def kill(sweep: Sweep) -> None:
    """Let go of all locks without a word, as the operating system does for a process that is gone."""
    held = sweep._locks._held
    for number in list(held):
        held.pop(number).release()


def run_on(sweep: Sweep) -> int:
    """Complete trials until there are enough; the number of those that were begun."""
    begun = 0
    while (trial := sweep.claim()) is not None:
        begun += 1
        leave_run(sweep, trial.number)
        sweep.complete(trial.number, [0.5], [0.4, 0.5])
    return begun

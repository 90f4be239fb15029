"""What a sweep costs beyond its trainings, what more workers than cores cost, and what pruning saves.

    python -m benchmarks.sweeps cost [trials=10]      one process and one fresh worker, against a plain Optuna loop
    python -m benchmarks.sweeps workers [trials=12]   four workers on the cores of two
    python -m benchmarks.sweeps pruning [name=cnn_tpe] [pruner=median] [KEY=VALUE ...]

Any further KEY=VALUE is an override of every training. Each number is of processes of their own, start-up included.

Measured 2026-11 on two Xeon cores. Cost: a trial takes 0.33 to 0.38 s beyond the 0.65 s of the plain loop, a fresh
worker 1.4 to 1.7 s. Four workers reach 0.92 of the throughput of two with 12 trials of 10 epochs (28 s by one of two
workers), and 0.83 with 8 trials of 3 epochs, of which their start is a large part. Pruning by percentile with
hydra/sweeper/sampler=random, which proposes the same points either way: 87.6 % after 94 epochs against 87.9 % after 240
on the embedded dataset, 81.2 % after 83 against 81.2 % after 240 on UC Merced at 64 px. With TPE, whose proposals
depend on what was pruned, sampler seeds 0 and 1 on the embedded dataset: 90.3 and 89.4 % after 240 epochs each without
pruning, the same two after 157 and 175 with the median, 89.4 and 87.9 % after 82 and 65 by successive halving.
"""

import csv
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import run_process

TINY = ["data.image_size=32", "model.depth=4", "trainer.epochs=2", "trainer.limit_train_batches=5"]
PAIRS = 3


def main(arguments: list[str]) -> None:
    """Measure and print."""
    what, options = arguments[0], dict(argument.split("=", 1) for argument in arguments[1:])
    with tempfile.TemporaryDirectory(prefix="landuse-bench-") as name:
        folder = Path(name)
        home = f"data.home={options.pop('data.home', folder / 'data')}"
        {"cost": cost, "workers": workers, "pruning": pruning, "loop": plain_loop}[what](folder, home, options)


def cost(folder: Path, home: str, options: dict[str, str]) -> None:
    """Seconds per trial, sweep and worker: the same trainings (one seed after another) in all three, few and many."""
    few = int(options.pop("trials", "10"))
    overrides = [*TINY, home, *(f"{key}={value}" for key, value in options.items())]
    run(["-m", "landuse.preprocess", *overrides], folder)
    for pair in range(PAIRS):
        seconds: dict[str, list[float]] = {"plain": [], "one": [], "fresh": []}
        for trials in (few, 3 * few):
            name = f"{pair}-{trials}"
            loop = ["-m", "benchmarks.sweeps", "loop", f"trials={trials}", f"outputs=plain-{name}"]
            seconds["plain"].append(run([*loop, *overrides], folder))
            sweep = [*overrides, f"seed=range(0,{trials})"]
            one = ["-m", "landuse.train", "--multirun", "+sweeps=cnn_seeds", f"hydra.sweeper.study_name=one-{name}"]
            seconds["one"].append(run([*one, *sweep], folder))
            fresh = ["-m", "landuse.sweep", "name=cnn_seeds", "workers=1", f"study_name=fresh-{name}"]
            seconds["fresh"].append(run([*fresh, *sweep], folder))
        slope = {kind: (many - start) / (2 * few) for kind, (start, many) in seconds.items()}
        extra = slope["one"] - slope["plain"]
        once = seconds["one"][0] - seconds["plain"][0] - few * extra
        worker = seconds["fresh"][0] - seconds["one"][0]
        print(f"a trial: plain loop {slope['plain']:.3f} s, sweep {slope['one']:.3f} s ({extra:+.3f});", end=" ")
        print(f"a sweep {once:+.2f} s; a worker {worker:+.2f} s", flush=True)


def plain_loop(folder: Path, home: str, options: dict[str, str]) -> None:
    """The same trainings in a loop of Optuna's own, in memory; run as a process by :func:`cost`."""
    import optuna
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    from landuse.cli import Invocation
    from landuse.config import compose
    from landuse.config.folders import config_dir
    from landuse.train import train

    compose.register()
    trials = int(options.pop("trials"))
    outputs = Path(options["outputs"])

    def objective(trial: optuna.Trial) -> float:
        seed = trial.suggest_int("seed", 0, trials - 1)
        with initialize_config_dir(str(config_dir())):
            overrides = [home, f"seed={seed}", *(f"{key}={value}" for key, value in options.items())]
            composed = hydra_compose("config", overrides)
        call = Invocation("train", [], overrides, composed, outputs / str(trial.number), is_multirun=True)
        return train(compose.to_config(composed), call)

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.BruteForceSampler(seed=0))
    study.optimize(objective, n_trials=trials)


def workers(folder: Path, home: str, options: dict[str, str]) -> None:
    """Trials per minute of two and of four workers."""
    trials = int(options.pop("trials", "12"))
    overrides = [home, *(f"{key}={value}" for key, value in options.items())]
    run(["-m", "landuse.preprocess", *overrides], folder)
    for pair in range(PAIRS):
        rates = []
        for count in (2, 4):
            sweep = [f"seed=range(0,{trials})", f"study_name=by{count}-{pair}", *overrides]
            rates.append(
                60 * trials / run(["-m", "landuse.sweep", "name=cnn_seeds", f"workers={count}", *sweep], folder)
            )
        print(f"two workers {rates[0]:.2f} trials/min, four {rates[1]:.2f} ({rates[1] / rates[0]:.3f})", flush=True)


def pruning(folder: Path, home: str, options: dict[str, str]) -> None:
    """The same recipe and sampler seeds without and with its pruner: best value and epochs trained."""
    name, pruner = options.pop("name", "cnn_tpe"), options.pop("pruner", "median")
    overrides = [home, *(f"{key}={value}" for key, value in options.items())]
    for choice in ("none", pruner):
        seconds = run(
            [
                "-m",
                "landuse.sweep",
                f"name={name}",
                f"hydra/sweeper/pruner={choice}",
                f"study_name={choice}",
                *overrides,
            ],
            folder,
        )
        with (folder / "outputs" / "sweeps" / choice / "leaderboard.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        epochs, pruned = sum(int(row["epochs"]) for row in rows), sum(row["state"] == "pruned" for row in rows)
        print(f"{choice}: best {rows[0]['value']}, {epochs} epochs, {pruned} pruned, {seconds:.0f} s", flush=True)


def run(arguments: list[str], folder: Path) -> float:
    """Seconds from start to end of a Python process in ``folder``."""
    return run_process(arguments, folder).seconds


if __name__ == "__main__":
    main(sys.argv[1:])

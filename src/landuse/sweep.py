"""python -m landuse.sweep: a sweep with workers, which goes on where it stopped, and its report.

    python -m landuse.sweep name=cnn_tpe workers=4 [n_trials=N] [dry_run=true] [any override of a training]

A shorter way to write `python -m landuse.train --multirun +sweeps=cnn_tpe hydra.sweeper.workers=4 ...`.
"""

import runpy
import sys

from landuse.config.folders import recipes

OWN_KEYS = ("workers", "n_trials", "max_failures", "storage", "study_name", "dry_run")  # of hydra.sweeper
SHOWING = ("--cfg", "-c", "--info", "-i")  # Hydra's, which show the configuration instead of running anything
USAGE = """usage: python -m landuse.sweep name=RECIPE [KEY=VALUE ...]

  workers=N        processes on this machine; 1 unless given, 0 for none but this one
  n_trials=N       finished trials in all
  max_failures=N   more than that end the sweep
  dry_run=true     show the space, the budget and the first points, and train nothing
  study_name=NAME  of the study and of its folder; the recipe's name unless given
  storage=URL      the study in PostgreSQL, for several machines
  --config-dir DIR where DIR/sweeps/ has recipes of yours

Other keys are overrides of every training, as in python -m landuse.train."""


def hydra_arguments(arguments: list[str]) -> list[str]:
    """The arguments of the multirun that these stand for.

    Raises:
        SystemExit: no recipe is named; status 2.
    """
    names = [argument.partition("=")[2] for argument in arguments if argument.startswith("name=")]
    if not names or not names[-1] or "--help" in arguments or "-h" in arguments:
        is_help = "--help" in arguments or "-h" in arguments
        text = f"{USAGE}\n\nRecipes: {', '.join(recipes())}"
        print(text if is_help else f"error: no recipe is named.\n{text}", file=sys.stdout if is_help else sys.stderr)
        sys.exit(0 if is_help else 2)
    if "," in names[-1]:
        print(f"error: name={names[-1]}: one sweep at a time, each by a command of its own.", file=sys.stderr)
        sys.exit(2)
    is_shown = any(argument.partition("=")[0] in SHOWING for argument in arguments)
    translated = [*([] if is_shown else ["--multirun"]), f"+sweeps={names[-1]}"]
    if not any(argument.startswith("workers=") for argument in arguments):
        translated.append("hydra.sweeper.workers=1")
    for argument in arguments:
        key = argument.partition("=")[0]
        if key != "name" and argument not in ("-m", "--multirun"):
            translated.append(f"hydra.sweeper.{argument}" if key in OWN_KEYS else argument)
    return translated


def main() -> None:
    """Entry point of landuse-sweep."""
    sys.argv[1:] = hydra_arguments(sys.argv[1:])
    runpy.run_module("landuse.train", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()

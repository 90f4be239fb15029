"""Mistakes in a sweep's recipe or command: one clear message, status 2, and nothing written."""

from pathlib import Path

import pytest

from landuse.sweep import hydra_arguments

RECIPE = """# @package _global_
defaults:
  - override /hydra/sweeper: landuse
hydra:
  sweeper:
    n_trials: 3
    params: {model.dropout: "interval(0.1,0.5)"}
"""
COMMAND = {
    "typing error in a short key": (["n_trial=3"], "Nearest: hydra.sweeper.n_trials"),
    "short key that is added": (["+n_trials=3"], "Nearest: hydra.sweeper.n_trials"),
    "key that the sweeper lacks": (["hydra.sweeper.n_trial=3"], "hydra/sweeper=landuse, which a recipe must choose"),
    "no sampler": (["hydra.sweeper.sampler=null"], "choose one by hydra/sweeper/sampler=NAME"),
    "no pruner": (["hydra.sweeper.pruner=null"], "choose one by hydra/sweeper/pruner=NAME"),
    "several objectives": (
        ["hydra/sweeper/sampler=cmaes", "hydra.sweeper.objective=[val/accuracy,parameters]"], "takes one objective",
    ),
    "null among choices of a group": (["augment=light,null"], "augment=null is not a valid choice"),
    "null as recipe": (["name=null"], "sweeps=null is not a valid choice"),
    "number as recipe": (["name=5"], "sweeps=5 is not a valid choice"),
}  # fmt: skip
RECIPES = {
    "no package": (RECIPE.partition("\n")[2], "its first line must be '# @package _global_'"),
    "empty": ("", "its first line must be '# @package _global_'"),
    "no sweeper": (RECIPE.replace("  - override /hydra/sweeper: landuse\n", "  - _self_\n"), "a recipe must choose"),
    "key without a name": (RECIPE.replace("model.dropout", "''"), "Cannot read the override '=0.1'"),
    "itself": ("# @package _global_\ndefaults:\n  - mine\n", "names itself in its defaults"),
}


@pytest.fixture
def sweep(command, tiny, tmp_path: Path):
    def run(recipe: bytes, *arguments: str):
        (tmp_path / "c/sweeps").mkdir(parents=True)
        (tmp_path / "c/sweeps/mine.yaml").write_bytes(recipe)
        return command("train", *hydra_arguments(["--config-dir", "c", "name=mine", *tiny, *arguments]))

    return run


@pytest.mark.parametrize(("arguments", "message"), COMMAND.values(), ids=COMMAND)
def test_mistakes_in_the_command(sweep, tmp_path: Path, arguments: list[str], message: str) -> None:
    done = sweep(RECIPE.encode(), *arguments)
    assert done.status == 2
    assert done.err.startswith("error: ") and message in done.err and "Traceback" not in done.err
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize(("recipe", "message"), RECIPES.values(), ids=RECIPES)
def test_mistakes_in_the_recipe(sweep, tmp_path: Path, recipe: str, message: str) -> None:
    done = sweep(recipe.encode())
    assert done.status == 2
    assert done.err.startswith("error: ") and message in done.err and "Traceback" not in done.err
    assert not (tmp_path / "outputs").exists()


def test_a_recipe_without_multirun(command, tiny, tmp_path: Path) -> None:
    done = command("train", *tiny, "sweeps=cnn_tpe")
    assert done.status == 2 and "needs --multirun; or start python -m landuse.sweep name=cnn_tpe" in done.err
    assert not (tmp_path / "outputs").exists()


def test_a_recipe_in_another_encoding(sweep) -> None:
    done = sweep(RECIPE.encode() + "# für\n".encode("latin-1"))
    assert done.status == 2 and "save its YAML file as UTF-8" in done.err and "Traceback" not in done.err


def test_two_recipes_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        hydra_arguments(["name=cnn_tpe,cnn_seeds"])
    assert "one sweep at a time" in capsys.readouterr().err

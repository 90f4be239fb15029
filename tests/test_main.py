"""python -m landuse: the commands under one name, and one of them by default."""

import subprocess
import sys
from pathlib import Path

import pytest

from landuse import __main__

COMMANDS = Path(__main__.__file__).parent


def test_every_command_has_its_line() -> None:
    """A command is a module beside the others that has an entry point of its own."""
    files = {path.stem for path in COMMANDS.glob("*.py") if "\ndef main()" in path.read_text(encoding="utf-8")}
    assert set(__main__.COMMANDS) == files - {"__main__"}


@pytest.mark.parametrize(
    ("words", "default", "chosen"),
    [
        (["train", "seed=1"], None, ("train", ["seed=1"])),
        (["evaluate"], "train", ("evaluate", [])),
        (["model=cnn", "trainer.epochs=3"], "train", ("train", ["model=cnn", "trainer.epochs=3"])),
        (["--multirun", "seed=1,2"], "train", ("train", ["--multirun", "seed=1,2"])),
        ([], "serve", ("serve", [])),
        ([], "serve run=/model", ("serve", ["run=/model"])),
        (["run=/x"], "serve run='/my model'", ("serve", ["run=/my model", "run=/x"])),
        (["serve", "run=/x"], "serve run=/model", ("serve", ["run=/model", "run=/x"])),
        (["predict", "run=/x"], "serve run=/model", ("predict", ["run=/x"])),
    ],
)
def test_which(words: list[str], default: str | None, chosen: tuple[str, list[str]]) -> None:
    assert __main__.choose(words, default) == chosen


@pytest.mark.parametrize(
    ("words", "default", "message"),
    [
        ([], None, "No command was given"),
        (["seed=1"], None, "No command was given"),
        (["seed=1"], "rain", "LANDUSE_COMMAND names no command but 'rain'"),
        (["train"], "train '", "LANDUSE_COMMAND=train ' cannot be read"),
        (["trian", "seed=1"], "train", "no command 'trian'"),
    ],
)
def test_none(words: list[str], default: str | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        __main__.choose(words, default)


def test_runs_it_as_python_would(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "landuse", "train", "nonsense=1"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.returncode == 2
    assert "nonsense" in done.stderr and "Traceback" not in done.stderr
    done = subprocess.run([*command[:3], "--help"], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.returncode == 0 and "evaluate" in done.stdout

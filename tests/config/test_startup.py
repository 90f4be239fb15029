"""Help and configuration errors answer without torch, from a process of their own."""

import subprocess
import sys

import pytest

PROBE = """
import atexit, runpy, sys
heavy = ("torch", "torchvision", "matplotlib", "wandb", "numpy")
atexit.register(lambda: print("LOADED", [name for name in heavy if name in sys.modules], file=sys.stderr))
sys.argv = ["train", *{arguments!r}]
runpy.run_module("landuse.train", run_name="__main__")
"""


@pytest.mark.parametrize(
    ("arguments", "status", "shown"),
    [
        (["--help"], 0, "== Config"),
        (["--cfg", "job"], 0, "batch_size"),
        (["trainer.lrr=1"], 2, ""),
        (["trainer.epochs=0"], 2, ""),
        (["model=custom"], 2, ""),
    ],
)
def test_no_torch(arguments: list[str], status: int, shown: str, tmp_path) -> None:
    program = PROBE.format(arguments=arguments)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert "LOADED []" in done.stderr
    assert done.returncode == status
    assert shown in done.stdout

"""Help and configuration errors answer without torch, from a process of their own."""

import subprocess
import sys

import pytest

PROBE = """
import runpy, sys
sys.argv = ["train", *{arguments!r}]
try:
    runpy.run_module("landuse.train", run_name="__main__")
except SystemExit as exit_:
    status = exit_.code
loaded = [name for name in ("torch", "torchvision", "matplotlib", "wandb", "numpy") if name in sys.modules]
print("LOADED", loaded, "STATUS", status, file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("arguments", "status", "shown"),
    [
        (["--help"], 0, "== Config"),
        (["--cfg", "job"], None, "batch_size"),
        (["trainer.lrr=1"], 2, ""),
        (["trainer.epochs=0"], 2, ""),
        (["model=custom"], 2, ""),
    ],
)
def test_no_torch(arguments: list[str], status: int | None, shown: str, tmp_path) -> None:
    program = PROBE.format(arguments=arguments).replace("status = exit_.code", "status = exit_.code")
    program = program.replace("try:", "status = None\ntry:", 1)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert f"LOADED [] STATUS {status}" in done.stderr
    assert shown in done.stdout

"""The tutorial is carried out as it stands, and what the documentation names exists."""

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
TUTORIAL = ROOT / "docs/tutorial.md"
MARK = "<<status>>"


class Block(NamedTuple):
    """Commands of the page, and what it shows as their output."""

    commands: str
    shown: list[str]

    @property
    def lines(self) -> list[str]:
        """One for each command, as a shell reads them: a backslash at the end of a line joins the next to it."""
        return self.commands.replace("\\\n", "").splitlines()


def blocks(page: str) -> list[Block]:
    """The page's commands in order, each with the output block that follows it directly."""
    pattern = r"^```sh\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?"
    return [Block(found[1], (found[2] or "").splitlines()) for found in re.finditer(pattern, page, re.M | re.S)]


def masked(line: str) -> str:
    """The line without what differs from run to run: its numbers, and how it is aligned."""
    return " ".join(re.sub(r"\d+(?:[.,:]\d+)*", "#", line).split())


def missing(shown: list[str], said: str) -> list[str]:
    """What the page shows and was not said in this order. An ellipsis stands for any text."""
    lines = iter(masked(line) for line in said.splitlines())
    return [
        line
        for line in shown
        if not any(re.fullmatch(".*".join(map(re.escape, masked(line).split("…"))), actual) for actual in lines)
    ]


def test_finds_the_commands() -> None:
    found = blocks(TUTORIAL.read_text())
    commands = [line for block in found for line in block.lines]
    modules = {name for line in commands for name in re.findall(r"python -m landuse\.(\w+)", line)}
    assert commands[0].startswith("make train")
    assert modules == {"train", "evaluate", "report", "sweep", "export", "predict", "map", "serve"}
    assert sum(line.startswith("curl") for line in commands) == 2
    assert sum(bool(block.shown) for block in found) > len(found) / 2


@pytest.mark.parametrize(
    ("shown", "said", "lost"),
    [
        (["loss 1.25, 300 images/s"], "before\nloss  0.9, 20 images/s\n", []),
        (["device cpu, …"], "device cpu, bf16", []),
        (["…", "done"], "a\nb\ndone", []),
        (["b", "a"], "a\nb", ["a"]),
        (["best epoch 3"], "worst epoch 3", ["best epoch 3"]),
    ],
)
def test_compares_the_shape_of_outputs(shown: list[str], said: str, lost: list[str]) -> None:
    assert missing(shown, said) == lost


def checkout(target: Path) -> None:
    """The tree as it is, in a repository of its own, with the environment of these tests as its .venv."""
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split("\0")  # fmt: skip
    for name in filter(None, names):
        source = ROOT / name
        if name == ".venv" or not (source.is_symlink() or source.is_file()):  # a link is no folder to git
            continue
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target / name, follow_symlinks=False)
    (target / ".venv").mkdir()
    for name in ("bin", "lib", "pyvenv.cfg"):
        (target / ".venv" / name).symlink_to(Path(sys.prefix) / name)
    (target / ".venv/.installed").touch()  # make finds nothing to set up
    identity = ["-c", "user.name=Test", "-c", "user.email=test@localhost"]
    for arguments in (["init", "--quiet"], ["add", "."], [*identity, "commit", "--quiet", "-m", "clone"]):
        subprocess.run(["git", *arguments], cwd=target, check=True)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.mark.slow
def test_every_command_does_what_the_page_shows(tmp_path: Path) -> None:
    if not (ROOT / ".git").exists() or not (Path(sys.prefix) / "bin/activate").is_file():
        pytest.skip("needs a git checkout and a virtual environment")
    (tmp_path / "home").mkdir()
    checkout(tmp_path / "clone")
    found, port = blocks(TUTORIAL.read_text()), free_port()
    commands = [line for block in found for line in block.lines]
    script = "".join(f"{line}\necho '{MARK}' $?\n" for line in commands).replace(":8000", f":{port}")
    environment = {key: os.environ[key] for key in ("PATH", "OMP_NUM_THREADS", "LANG") if key in os.environ} | {
        "HOME": str(tmp_path / "home"),
        "PORT": str(port),
        "PYTHONPATH": str(tmp_path / "clone/src"),
    }
    # One shell for all, as the reader has it: the active environment and the server stay from block to block. However
    # the shell ends, so does the server.
    shell = subprocess.run(
        ["bash", "-c", f"trap 'kill $(jobs -p) 2>/dev/null' EXIT\n{script}"],
        cwd=tmp_path / "clone", env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, timeout=3600,
    )  # fmt: skip
    (tmp_path / "transcript.txt").write_text(shell.stdout)
    said = re.split(rf"{MARK} (\d+)\n", shell.stdout)
    outputs, statuses = said[:-1:2], said[1::2]
    assert [(line, status) for line, status in zip(commands, statuses, strict=True) if status != "0"] == [], (
        shell.stdout
    )
    for block in found:
        num_lines = len(block.lines)
        output, outputs = "".join(outputs[:num_lines]), outputs[num_lines:]
        assert not missing(block.shown, output), f"{block.commands}{output}"
    assert (tmp_path / "clone/outputs/sweeps/cnn_tpe/sweep.html").is_file()
    # Nothing is left that git would ask about: only the lock of the pipeline may say other sums.
    status = ["git", "status", "--porcelain", "--untracked-files=all"]
    left = subprocess.run(status, cwd=tmp_path / "clone", capture_output=True, text=True, check=True).stdout
    assert [line for line in left.splitlines() if line.startswith("??")] == []

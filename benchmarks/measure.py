"""What the benchmarks share: their options, processes with time and memory, a table of medians, and a JSON file.

Things to be compared are run in turn, so that a machine whose speed drifts treats them alike, and ratios are taken
pair by pair.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MIB = 2**20


@dataclass(frozen=True)
class Process:
    """What a process took."""

    seconds: float  # from its start to its end
    peak_bytes: int  # largest resident set, mapped files included
    output: str  # of stdout and stderr


def run_process(arguments: Sequence[str], folder: Path = ROOT, environment: Mapping[str, str] | None = None) -> Process:
    """Run Python with these arguments in ``folder``; this checkout's modules are found from anywhere.

    Raises:
        RuntimeError: it failed; the end of its output.
    """
    found = os.pathsep.join([str(ROOT), str(ROOT / "src")])
    # As people start it: with compiled modules kept.
    inherited = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *arguments], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**inherited, "PYTHONPATH": found, **(environment or {})},
    )  # fmt: skip
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise RuntimeError(f"{' '.join(arguments)}:\n{output[-3000:]}")
    return Process(time.perf_counter() - started, usage.ru_maxrss * 1024, output)


def split_options(arguments: Sequence[str], **defaults: Any) -> tuple[dict[str, Any], list[str]]:
    """``key=value`` arguments that are the benchmark's own, in the types of their defaults; and all others."""
    own, others = dict(defaults), []
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key in defaults:
            own[key] = type(defaults[key])(value)
        else:
            others.append(argument)
    return own, others


def in_turn(rounds: int, *things: Callable[[], float]) -> list[list[float]]:
    """Call each once a round; what each returned in all rounds but the first, which warms up."""
    measured: list[list[float]] = [[] for _ in things]
    for round_ in range(rounds + 1):
        for values, thing in zip(measured, things, strict=True):
            value = thing()
            if round_:
                values.append(value)
    return measured


def anonymous_bytes() -> int:
    """This process's memory without mapped files, which the system may drop at any time (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


@dataclass
class Report:
    """A benchmark's results; :meth:`finish` shows and keeps them."""

    name: str
    settings: dict[str, Any]
    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, label: str, unit: str, values: Sequence[float]) -> None:
        """Values of one thing, in the order in which they were measured."""
        middle, low, high = statistics.median(values), min(values), max(values)
        row = {"name": label, "unit": unit, "median": middle, "min": low, "max": high, "n": len(values)}
        self.rows.append({**row, "values": list(values)})

    def ratio(self, label: str, above: Sequence[float], below: Sequence[float]) -> None:
        """Quotients of what was measured in the same rounds."""
        self.add(label, "", [a / b for a, b in zip(above, below, strict=True)])

    def finish(self) -> None:
        """Print the table, and write ``outputs/benchmarks/<name>.json`` below the current folder."""
        content = {
            "benchmark": self.name,
            "command": f"python -m benchmarks.{self.name} {' '.join(sys.argv[1:])}".strip(),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": commit(),
            "machine": machine(),
            "settings": self.settings,
            "results": self.rows,
        }
        path = Path("outputs", "benchmarks", f"{self.name}.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        print(", ".join(f"{key} {value}" for key, value in (content["machine"] | self.settings).items()))
        width = max(len(row["name"]) for row in self.rows)
        print(f"{'':{width}}  {'median':>12} {'min':>12} {'max':>12}   n")
        for row in self.rows:
            numbers = " ".join(f"{_shown(row[key]):>12}" for key in ("median", "min", "max"))
            print(f"{row['name']:{width}}  {numbers}  {row['n']:2}  {row['unit']}".rstrip())
        print(path)


def commit() -> str | None:
    """The checkout's, with a mark where it has been changed since."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # unpacked from an archive
        return None


def machine() -> dict[str, Any]:
    """The hardware and the versions that a figure is of."""
    import torch  # not above: some benchmarks measure how long it takes

    has_call = hasattr(os, "sched_getaffinity")
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if has_call else os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor()


def _shown(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"

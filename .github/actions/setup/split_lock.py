"""Divide the lock in two: what is installed by its hashes, and PyTorch's CPU build, which has others.

    python split_lock.py requirements.lock OSTYPE FOLDER

writes hashed.txt and torch.txt into FOLDER. Only on Linux are the lock's wheels of PyTorch those for CUDA; elsewhere
everything stays in hashed.txt, and torch.txt is empty.
"""

import re
import sys
from pathlib import Path

CPU_BUILDS = {"torch", "torchvision"}  # which PyTorch's own index has for CPUs
CUDA_ALONE = re.compile(r"nvidia-|cuda-|triton$")  # which only PyTorch's CUDA build asks for


def split(lock: str) -> tuple[str, str]:
    """The requirements with hashes, without PyTorch and what its CUDA build needs; and PyTorch's, without hashes."""
    hashed, torch = [], []
    for block in re.split(r"^(?=[a-z0-9])", lock, flags=re.MULTILINE):
        requirement = block.split("\\", 1)[0].strip()
        name = re.split(r"[=\[ ]", requirement, maxsplit=1)[0]
        if name in CPU_BUILDS:
            torch.append(f"{requirement}\n")
        elif not CUDA_ALONE.match(name):
            hashed.append(block)
    if len(torch) != len(CPU_BUILDS):
        raise SystemExit(f"error: the lock must name {', '.join(sorted(CPU_BUILDS))} once each, and has {torch}")
    return "".join(hashed), "".join(torch)


def main() -> None:
    """Read the lock and write both parts."""
    lock, system, folder = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    text = lock.read_text(encoding="utf-8")
    hashed, torch = split(text) if system.startswith("linux") else (text, "")
    (folder / "hashed.txt").write_text(hashed, encoding="utf-8", newline="\n")
    (folder / "torch.txt").write_text(torch, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()

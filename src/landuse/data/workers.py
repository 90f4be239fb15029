"""Worker processes: how many share the machine's cores, and what they ask of a script."""

import multiprocessing
import os


def num_workers() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def require_main_guard() -> None:
    """Make sure that this is no worker at its start, which imports the script and would do again what that does.

    Raises:
        RuntimeError: it is; the process that started it then ends with a broken pool instead of waiting for its lock.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):  # as the standard library itself asks
        raise RuntimeError(
            "Packing starts worker processes, and each imports the script that it is called from: put the call under "
            'if __name__ == "__main__":'
        )

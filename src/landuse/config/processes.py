"""Which of several processes this is, as torchrun says in the environment; known without importing torch."""

import os
from dataclasses import dataclass

WORKER = "LANDUSE_SWEEP_WORKER"  # set in the workers of a sweep: which one it is, from 0


@dataclass(frozen=True)
class Place:
    """A process among those that train one model together."""

    rank: int = 0  # 0 is the one that writes
    size: int = 1  # number of processes
    local_rank: int = 0  # among those of this machine
    local_size: int = 1

    @classmethod
    def find(cls) -> "Place":
        """The place that torchrun gave this process; that of a single one where it was started otherwise."""
        if "TORCHELASTIC_RUN_ID" not in os.environ:  # RANK alone may be anybody's
            return cls()
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        return cls(*(int(os.environ[name]) for name in names))

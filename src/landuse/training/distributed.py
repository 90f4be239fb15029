"""Several processes that train one model together, each on its share of every batch (torchrun, torch's DDP).

Every process composes the same configuration and goes through the same steps. The first alone writes files; where it
decides something (the run folder, the checkpoint to go on from), the others are told.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from landuse.config.processes import Place
from landuse.errors import Interrupted, PeerLostError, UserError
from landuse.training.batch_norm import synchronise_batch_norm
from landuse.training.group import Group

T = TypeVar("T")
# Of one exchange. The first process may download and pack the data while the others wait for it.
TIMEOUT = timedelta(hours=12)


class Processes(Group):
    """Several processes, which have met."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size

    def join(self, model: nn.Module, synchronised: bool) -> tuple[nn.Module, nn.Module]:
        if synchronised:
            model = synchronise_batch_norm(model)
        # Gives every process the first one's running statistics at each step; they differ where shares are apart.
        return model, DistributedDataParallel(model)

    def holding_gradients(self, forward: Callable[..., Any]) -> AbstractContextManager[None]:
        inner = getattr(forward, "_orig_mod", forward)  # within a compiled one
        return inner.no_sync() if isinstance(inner, DistributedDataParallel) else nullcontext()

    def sum(self, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        distributed.all_reduce(total)
        return total

    def agree(self, code: int) -> int:
        codes = torch.tensor([code], dtype=torch.int64)
        distributed.all_reduce(codes, distributed.ReduceOp.MAX)
        return int(codes)

    def same_buffers(self, model: nn.Module) -> None:
        for buffer in model.buffers():
            distributed.broadcast(buffer, src=0)

    def first(self, decide: Callable[[], T]) -> T:
        outcome: list[Any] = [None, False]
        error = UserError("")
        if self.is_main:
            try:
                outcome[0] = decide()
            except UserError as problem:
                error, outcome[1] = problem, True
        distributed.broadcast_object_list(outcome, src=0)
        if outcome[1]:
            raise error
        return outcome[0]  # type: ignore[no-any-return]

    def wait(self) -> None:
        distributed.barrier()


@contextmanager
def meeting(place: Place, device: str) -> Iterator[Group]:
    """Meet the other processes of a training, and part from them in the end.

    Args:
        device: ``trainer.device``; on CUDA each process takes the GPU of its number on this machine.

    Raises:
        PeerLostError: one of them has ended early, and what it was needed for cannot go on.
    """
    on_cuda = device in ("auto", "cuda") and torch.cuda.is_available()
    if on_cuda:
        torch.cuda.set_device(place.local_rank)
    # Host tensors travel by gloo even where the training is on GPUs.
    distributed.init_process_group("cpu:gloo,cuda:nccl" if on_cuda else "gloo", timeout=TIMEOUT)
    try:
        yield Processes(place.rank, place.size)
    except (distributed.DistError, RuntimeError) as error:
        if not _is_severed(error):
            raise
        raise PeerLostError(
            f"Process {place.rank} of {place.size} has lost another one, which has ended; its own message says why. "
            "The run goes on from its last checkpoint with hydra.run.dir=<its folder> trainer.resume=auto."
        ) from error
    except (UserError, Interrupted):  # in all of them
        distributed.destroy_process_group()
        raise
    else:
        distributed.destroy_process_group()


def _is_severed(error: RuntimeError) -> bool:
    """Whether an exchange failed because the other side is gone; gloo says so in a plain RuntimeError."""
    text = str(error)
    return isinstance(error, distributed.DistError) or "gloo" in text.lower() or "Connection closed by peer" in text

"""The processes that train one model together, as the training sees them; here one that is alone.

No torch, for who decides something before it is needed. Several processes: :mod:`landuse.training.distributed`.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from torch import Tensor, nn

T = TypeVar("T")


class Group:
    """One process: it has nothing to exchange, and nothing here costs anything."""

    rank = 0
    size = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files."""
        return self.rank == 0

    @property
    def stream(self) -> tuple[int, ...]:
        """What tells this process's random numbers from the others'; the first has those of a single one."""
        return (self.rank,) if self.rank else ()

    def rows(self, num: int) -> slice:
        """This process's share of ``num`` rows; shares are contiguous and differ by at most one."""
        return slice(self.rank * num // self.size, (self.rank + 1) * num // self.size)

    def join(self, model: "nn.Module", synchronised: bool) -> "tuple[nn.Module, nn.Module]":
        """Make the gradients of all processes one.

        Args:
            model: placed on the device; equal everywhere.
            synchronised: batch norm takes its statistics from the whole batch; else from the process's share.

        Returns:
            The model, whose batch norms may have been replaced, and what to call in the forward pass.
        """
        return model, model

    def holding_gradients(self, forward: Callable[..., Any]) -> AbstractContextManager[None]:
        """For all backward passes of a step but the last: gradients add up here and are exchanged once."""
        return nullcontext()

    def sum(self, tensor: "Tensor") -> "Tensor":
        """The sum over all processes."""
        return tensor

    def agree(self, code: int) -> int:
        """The largest of all processes' codes; on the host, so no device is waited for."""
        return code

    def same_buffers(self, model: "nn.Module") -> None:
        """Give every process the first one's buffers."""

    def first(self, decide: Callable[[], T]) -> T:
        """Have the first process decide, and all know the result.

        Raises:
            UserError: what it raised there; of no text elsewhere, where it need not be said again.
        """
        return decide()

    def wait(self) -> None:
        """Until all processes have come here."""


ALONE = Group()

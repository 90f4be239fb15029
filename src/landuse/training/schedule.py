"""The learning rate. To add a schedule: a branch here, and its name in TrainerConfig."""

import math

from landuse.config.schema import TrainerConfig

MOST_EPOCHS = 2**31  # beyond it, a power of decay_factor is no number any more


class Schedule:
    """The learning rate as a function of the training's progress; plateau alone has a memory.

    Attributes:
        decays: how often plateau has lowered the rate (kept in checkpoints).
        stale_epochs: epochs since the monitored metric last improved or the rate was lowered (likewise).
    """

    def __init__(self, config: TrainerConfig) -> None:
        self._config = config
        self.decays = 0
        self.stale_epochs = 0

    def lr(self, progress: float) -> float:
        """The rate after ``progress`` epochs, a fraction within an epoch."""
        config = self._config
        warmup = min(1.0, (progress + 1e-12) / config.warmup_epochs) if config.warmup_epochs > 0 else 1.0
        if config.scheduler == "one_cycle":
            return config.lr * self._one_cycle(progress)
        if config.scheduler == "cosine":
            factor = _cosine(1.0, config.final_lr, self._after_warmup(progress))
        elif config.scheduler == "step":
            factor = config.decay_factor ** (int(progress) // config.decay_epochs)
        elif config.scheduler == "plateau":
            factor = config.decay_factor**self.decays
        else:
            return config.lr  # constant
        return config.lr * max(warmup, 1e-3) * factor

    def end_epoch(self, improved: bool) -> None:
        """Tell plateau how the epoch went."""
        self.stale_epochs = 0 if improved else self.stale_epochs + 1
        if self._config.scheduler == "plateau" and self.stale_epochs >= self._config.decay_epochs:
            self.decays += 1
            self.stale_epochs = 0

    def restore(self, decays: int, stale_epochs: int) -> None:
        """Go on with what a checkpoint kept.

        Raises:
            ValueError: they are no counts.
        """
        if not all(type(count) is int and 0 <= count < MOST_EPOCHS for count in (decays, stale_epochs)):
            raise ValueError("its schedule has no counts")
        self.decays, self.stale_epochs = decays, stale_epochs

    def _after_warmup(self, progress: float) -> float:
        length = self._config.epochs - self._config.warmup_epochs
        if length <= 0:
            return 0.0  # a training that is all warm-up never comes to its decay
        return min(1.0, max(0.0, progress - self._config.warmup_epochs) / length)

    def _one_cycle(self, progress: float) -> float:
        """Half a cosine from 1/25 up to 1, half a cosine down to final_lr (Smith & Topin 2018, as torch shapes it)."""
        config = self._config
        if progress < config.warmup_epochs:
            return _cosine(1 / 25, 1.0, progress / config.warmup_epochs)
        return _cosine(1.0, config.final_lr, self._after_warmup(progress))


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2

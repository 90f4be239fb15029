"""Randomness as a pure function of (seed, stream, epoch, step): a resumed run draws what it would have drawn."""

import hashlib

import torch


def stream_seed(seed: int, *stream: str | int) -> int:
    """A 63-bit seed for one use of randomness; different streams of one run are independent.

    Args:
        seed: the run's seed.
        stream: names the use, such as ("augment", epoch, step).
    """
    text = ":".join(map(str, (seed, *stream)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def generator(seed: int, *stream: str | int) -> torch.Generator:
    """A CPU generator for one stream."""
    return torch.Generator().manual_seed(stream_seed(seed, *stream))


def seed_torch(seed: int, *stream: str | int) -> None:
    """Seed torch's global generators, on which initialisation and dropout draw."""
    number = stream_seed(seed, *stream)
    if torch.cuda.is_initialized() or torch.backends.mps.is_available():  # type: ignore[no-untyped-call]
        torch.manual_seed(number)
    else:  # it would keep a stack trace for every device that is not there, at each step
        torch.default_generator.manual_seed(number)

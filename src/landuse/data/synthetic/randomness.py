"""Random numbers and trigonometry that give the same bits on every machine.

NumPy promises the raw output of a bit generator, but neither the streams of ``Generator`` methods nor the last digits
of ``np.sin``. A generated dataset has to be the same file everywhere, so everything here is built from raw 64-bit words
and from the operations IEEE 754 rounds exactly (``+ - * /``, square root, floor, comparisons).
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import TypeVar

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

T = TypeVar("T")

_UNIT = 1.0 / (1 << 53)
_SQRT_3 = 1.7320508075688772
_TWO_PI = 6.283185307179586


class Dice:
    """A stream of random numbers that depends on its integer key alone.

    Args:
        key: Non-negative integers; different keys give unrelated streams.
    """

    def __init__(self, *key: int) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence(list(key)))

    def _words(self, shape: tuple[int, ...]) -> npt.NDArray[np.uint64]:
        count = 1
        for length in shape:
            count *= length
        return np.asarray(self._bits.random_raw(count), dtype=np.uint64).reshape(shape)

    def unit(self) -> float:
        """One number in [0, 1)."""
        return (int(self._bits.random_raw()) >> 11) * _UNIT

    def uniform(self, low: float, high: float) -> float:
        """One number in [low, high)."""
        return low + (high - low) * self.unit()

    def integer(self, low: int, high: int) -> int:
        """One integer from low to high, both included."""
        return low + int(self.unit() * (high - low + 1))

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self.unit() < probability

    def pick(self, options: Sequence[T]) -> T:
        """One of the options, all equally likely."""
        return options[self.integer(0, len(options) - 1)]

    def units(self, *shape: int) -> FloatArray:
        """Array of the given shape with numbers in [0, 1)."""
        return (self._words(shape) >> np.uint64(11)).astype(np.float64) * _UNIT

    def uniforms(self, low: float, high: float, *shape: int) -> FloatArray:
        """Array of the given shape with numbers in [low, high)."""
        return low + (high - low) * self.units(*shape)

    def bells(self, *shape: int) -> FloatArray:
        """Array of bell-shaped noise with mean 0 and standard deviation 1, never beyond 3.5.

        Each number is the sum of the four 16-bit quarters of one raw word: integer arithmetic, hence exact.
        """
        words = self._words(shape)
        mask = np.uint64(0xFFFF)
        total = words & mask
        for shift in (16, 32, 48):
            total = total + ((words >> np.uint64(shift)) & mask)
        return (total.astype(np.float64) / 65536.0 - 2.0) * _SQRT_3


def sin_turns(turns: FloatArray) -> FloatArray:
    """Sine of an angle given in full turns, to about six digits.

    A polynomial on a quarter turn stands in for ``np.sin``, whose last digit differs between processors.
    """
    wrapped = turns - np.floor(turns + 0.5)
    quarter = 0.25 - np.abs(np.abs(wrapped) - 0.25)
    x = quarter * _TWO_PI
    square = x * x
    series = 1.0 - square / 72.0
    series = 1.0 - square / 42.0 * series
    series = 1.0 - square / 20.0 * series
    series = 1.0 - square / 6.0 * series
    size = x * series
    return np.where(wrapped < 0.0, -size, size)


def cos_turns(turns: FloatArray) -> FloatArray:
    """Cosine of an angle given in full turns, to about six digits."""
    return sin_turns(turns + 0.25)


@lru_cache(maxsize=256)
def direction(turns: float) -> tuple[float, float]:
    """Unit vector (x, y) that points along an angle given in full turns."""
    vector = sin_turns(np.array([turns + 0.25, turns]))
    return float(vector[0]), float(vector[1])

"""Areas of classes, corrected for the mistakes that the classifier is known to make. Numpy only.

A map counts area by predicted class. With ``pi`` the true shares and ``E[true, predicted]`` the rates of the confusion
matrix, the counted shares are ``w = E^T pi`` (M. Saerens, P. Latinne and C. Decaestecker, "Adjusting the outputs of a
classifier to new a priori probabilities", Neural Computation 14, 2002; G. Forman, "Quantifying counts and costs via
classification", Data Mining and Knowledge Discovery 17, 2008). :func:`correct` solves it for shares that are not
negative, many times, for rates and mistakes as they may have been. docs/map-areas.md says how often its intervals hold.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Shares = NDArray[np.float64]

PRIOR_WRONG = 1.0  # mistaken images added to each class, spread over the others: 20 of 20 right is not certainty
MOST_PRIOR_RIGHT = 20.0  # right ones added beside them, in the ratio of the whole split but no more than this
NUM_STEPS = 60  # of the solution for given rates
STEP_POWER = 1.8  # larger steps than EM's, which converge below 2 (E. Bauer, D. Koller and Y. Singer, UAI 1997)
NUM_SWEEPS = 8  # of Gibbs sampling from that solution on; 20 give the same intervals
NUM_SIMULATED = 200  # scenes that the bias is measured in
CELLS_AT_ONCE = 2_000_000  # of draws x classes x classes: 16 MB an array
LEAST_RATE = 1e-12  # keeps what is counted possible under every draw of the rates
INTERVAL = (0.025, 0.975)


@dataclass(frozen=True)
class Corrected:
    """True shares (C,) of the area, which sum to 1, and for each class the ends of its 95 % interval."""

    share: Shares
    low: Shares
    high: Shares


def correct(
    counted: NDArray[np.floating],
    confusion: NDArray[np.integer],
    num_tiles: float,
    rng: np.random.Generator,
    num_draws: int = 1000,
) -> Corrected:
    """Estimate what share of this area each class truly has.

    Args:
        counted: (C,) area by predicted class in any unit, without what was rejected.
        confusion: (C, C) images of the test split, rows true, columns predicted; only the rates within a row count,
            so that the mix of the split is of no matter.
        num_tiles: how many tiles beside each other the area is: mistakes in one are one mistake.
        num_draws: of rates and of what was mistaken in the scene. A thousand take a second for 45 classes, and
            four times as long for twice as many classes.

    Raises:
        ValueError: shapes that do not fit, negative or infinite values, no area, or a class without test images, as
            nothing is known of what it is taken for.
    """
    _check(counted, confusion, num_tiles)
    shares = np.asarray(counted, np.float64) / np.sum(counted)
    known = confusion + _prior(confusion)
    at_once = max(1, CELLS_AT_ONCE // confusion.size)
    blocks = [
        _draw(shares, known, num_tiles, rng, min(at_once, num_draws - start)) for start in range(0, num_draws, at_once)
    ]
    share = np.concatenate([expected for expected, _ in blocks]).mean(axis=0)
    low, high = np.quantile(np.concatenate([drawn for _, drawn in blocks]), INTERVAL, axis=0)
    bias = _bias(low / low.sum() if low.any() else share, confusion, known, num_tiles, rng, min(at_once, NUM_SIMULATED))
    low = np.clip(low - np.maximum(bias, 0), 0, share)
    high = np.clip(high - np.minimum(bias, 0), share, 1)
    return Corrected(share, low, high)


def _check(counted: NDArray[np.floating], confusion: NDArray[np.integer], num_tiles: float) -> None:
    if counted.ndim != 1 or confusion.shape != (len(counted), len(counted)):
        raise ValueError(f"{counted.shape} counted classes do not fit a confusion matrix {confusion.shape}")
    if not (np.isfinite(counted).all() and (counted >= 0).all() and counted.sum() > 0):
        raise ValueError("counted areas must be finite, not negative, and not all 0")
    if (confusion < 0).any():
        raise ValueError("a confusion matrix has no negative counts")
    if not (np.isfinite(num_tiles) and num_tiles > 0):
        raise ValueError(f"num_tiles must be positive, not {num_tiles}")
    empty = np.flatnonzero(confusion.sum(axis=1) == 0)
    if len(empty):
        raise ValueError(f"class {empty[0]} has no test images: what it is taken for is unknown")


def _prior(confusion: NDArray[np.integer]) -> NDArray[np.float64]:
    """(C, C) parameters of the Dirichlet distributions that rows are thought to be of before their images are seen.

    Their ratio of right to wrong is that of the whole split. A prior that knows nothing of it would take a good
    classifier for a worse one, and the larger a class is, the more would be added to it.
    """
    num_classes, right = len(confusion), np.trace(confusion)
    wrong = confusion.sum() - right
    prior = np.full((num_classes, num_classes), PRIOR_WRONG / max(1, num_classes - 1))
    np.fill_diagonal(prior, min(MOST_PRIOR_RIGHT, PRIOR_WRONG * (right + 0.5) / (wrong + 0.5)))
    return prior


def _draw(
    counted: Shares, known: NDArray[np.float64], num_tiles: float, rng: np.random.Generator, num_draws: int
) -> tuple[Shares, Shares]:
    """Shares (num_draws, C), each for rates of its own: as expected, and as drawn of what these tiles may truly be.

    Gibbs sampling of the tiles' true classes and the shares in turn. The rates are drawn from the test split alone, not
    from the scene as well: a scene of a hundred thousand tiles would otherwise outvote the test images. It begins at
    solutions reached from random starts, so that what the counts cannot tell apart stays undecided.
    """
    rates = _drawn_rates(np.broadcast_to(known, (num_draws, *known.shape)), rng)
    shares = _solved(counted, rates, rng.dirichlet(np.ones(len(counted)), num_draws))
    tiles = np.floor(counted * num_tiles + rng.random(shares.shape)).astype(np.int64)  # fractions by chance
    for sweep in range(NUM_SWEEPS):
        joint = rates * shares[:, :, None]  # (draws, true, predicted)
        given = np.swapaxes(joint / joint.sum(axis=1, keepdims=True), 1, 2)  # of the true class, by the predicted one
        true = rng.multinomial(tiles, given)  # (draws, predicted, true)
        if sweep < NUM_SWEEPS - 1:
            shares = _normalised(rng.standard_gamma(1 / len(counted) + true.sum(axis=1)))
    parts = np.where(tiles[:, :, None] > 0, true / np.maximum(tiles, 1)[:, :, None], given)
    return counted @ given, counted @ parts


def _drawn_rates(known: NDArray[Any], rng: np.random.Generator) -> NDArray[np.float64]:
    rates: NDArray[np.float64] = np.maximum(_normalised(rng.standard_gamma(known)), LEAST_RATE)
    return rates


def _normalised(values: NDArray[Any]) -> NDArray[np.float64]:
    normalised: NDArray[np.float64] = values / values.sum(axis=-1, keepdims=True)
    return normalised


def _solved(counted: Shares, rates: NDArray[np.float64], shares: Shares) -> Shares:
    """Shares (N, C) of largest likelihood by EM from a start, for each of the ``rates`` (N, C, C)."""
    counted = np.broadcast_to(counted, shares.shape)
    for _ in range(NUM_STEPS):
        predicted = np.matmul(shares[:, None, :], rates)[:, 0]
        gain = np.matmul(rates, (counted / predicted)[:, :, None])[:, :, 0]
        shares = _normalised(shares * gain**STEP_POWER)
    return shares


def _bias(
    shares: Shares,
    confusion: NDArray[np.integer],
    known: NDArray[np.float64],
    num_tiles: float,
    rng: np.random.Generator,
    num_simulated: int,
) -> Shares:
    """By how much (C,) the solution is too large on average where ``shares`` are the true ones.

    As no share can be negative, uncertain rates give every class that is absent a little, all of it at the cost of
    those that are there. Test splits and scenes are simulated and corrected to measure it.
    """
    rates = _normalised(known)
    prior = known - confusion
    tests = rng.multinomial(confusion.sum(axis=1), rates, size=(num_simulated, len(shares))) + prior
    true = rng.multinomial(max(1, round(num_tiles)), shares, size=num_simulated)
    counted = rng.multinomial(true, rates).sum(axis=1)
    solved = _solved(_normalised(counted), _drawn_rates(tests, rng), np.full(true.shape, 1 / len(shares)))
    bias: Shares = (solved - _normalised(true)).mean(axis=0)
    return bias

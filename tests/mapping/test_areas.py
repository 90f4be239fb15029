"""Corrected areas against mixes that are known, and how often their intervals hold."""

import numpy as np
import pytest

from landuse.mapping.areas import correct

RATES = np.array([[0.80, 0.15, 0.05], [0.05, 0.94, 0.01], [0.00, 0.10, 0.90]])
MIX = np.array([0.05, 0.80, 0.15])


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def many(rates: np.ndarray) -> np.ndarray:
    return np.rint(20_000 * rates).astype(np.int64)


def paired_rates(num_classes: int, accuracy: float, generator: np.random.Generator) -> np.ndarray:
    """Classes of unequal difficulty; most of the mistakes are between two and two of them."""
    partner = np.arange(num_classes) ^ 1
    partner[partner == num_classes] = 0
    mistakes = np.full((num_classes, num_classes), 0.3 / (num_classes - 1))
    mistakes[np.arange(num_classes), partner] += 0.7
    wrong = np.clip((1 - accuracy) * generator.gamma(2, 0.5, num_classes), 0, 0.6)
    rates = mistakes * wrong[:, None]
    np.fill_diagonal(rates, 1 - wrong)
    return rates


def test_a_classifier_without_mistakes_leaves_what_is_counted() -> None:
    found = correct(np.array([3.0, 1.0, 0.0]), many(np.eye(3)), 1e5, rng())
    assert found.share == pytest.approx([0.75, 0.25, 0], abs=1e-3)
    assert (found.high - found.low).max() < 5e-3


def test_many_test_images_find_the_true_mix() -> None:
    counted = MIX @ RATES
    assert np.abs(counted - MIX).max() > 0.02  # what is counted is not it
    found = correct(counted, many(RATES), 1e6, rng())
    assert found.share == pytest.approx(MIX, abs=3e-3)


def test_the_mix_of_the_test_split_is_of_no_matter() -> None:
    unequal = many(RATES) * np.array([[1], [2], [7]])
    assert correct(MIX @ RATES, unequal, 1e6, rng()).share == pytest.approx(MIX, abs=3e-3)


def test_nor_is_the_unit_of_area() -> None:
    confusion = many(RATES) // 1000
    first, second = (correct(unit * MIX, confusion, 500, rng()) for unit in (1.0, 1e7))
    assert first.share == pytest.approx(second.share, abs=1e-9)


def test_all_test_images_right_is_not_certainty() -> None:
    found = correct(np.array([0.6, 0.4]), np.diag([20, 20]), 1e5, rng())
    assert found.share == pytest.approx([0.6, 0.4], abs=0.02)
    assert (found.low < [0.59, 0.39]).all()
    assert (found.high > [0.61, 0.41]).all()


@pytest.mark.parametrize("fewer", ["images", "tiles"])
def test_intervals_grow_with_fewer(fewer: str) -> None:
    confusion = many(RATES) // 100
    base = correct(MIX @ RATES, confusion, 10_000, rng())
    other = correct(
        MIX @ RATES, confusion // (10 if fewer == "images" else 1), 10_000 if fewer == "images" else 50, rng()
    )
    assert ((other.high - other.low) > 1.3 * (base.high - base.low)).all()


def test_a_class_that_is_never_predicted_stays_undecided() -> None:
    rates = np.array(
        [[0.95, 0.05, 0.0], [0.05, 0.95, 0.0], [0.0, 1.0, 0.0]]
    )  # the third is always taken for the second
    found = correct(np.array([0.5, 0.5, 0.0]), many(rates), 1000, rng())
    assert found.share[0] == pytest.approx(0.5, abs=0.05)
    assert found.low[2] < 0.05
    assert found.high[2] > 0.4


@pytest.mark.parametrize(
    "counted", [[1, 0, 0], [0, 0, 5], [1e-9, 1, 0], [0.2, 0.3, 0.5]], ids=["first", "third", "tiny", "mixed"]
)
@pytest.mark.parametrize("num_tiles", [0.3, 40, 1e7])
@pytest.mark.parametrize("confusion", [np.eye(3, dtype=int), np.full((3, 3), 4), 9 * np.eye(3, dtype=int)[[1, 2, 0]]])
def test_shares_are_shares_and_lie_in_their_intervals(
    counted: list[float], num_tiles: float, confusion: np.ndarray
) -> None:
    found = correct(np.array(counted, float), confusion, num_tiles, rng(), 50)
    assert found.share.sum() == pytest.approx(1)
    assert (found.low >= 0).all()
    assert (found.low <= found.share).all()
    assert (found.share <= found.high).all()
    assert (found.high <= 1).all()


def test_one_class() -> None:
    found = correct(np.array([7.0]), np.array([[3]]), 10, rng())
    assert [*found.share, *found.low, *found.high] == pytest.approx([1, 1, 1])


def test_draws_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = correct(MIX, many(RATES) // 1000, 500, rng())
    monkeypatch.setattr("landuse.mapping.areas.CELLS_AT_ONCE", 9 * 300)
    blocks = correct(MIX, many(RATES) // 1000, 500, rng())
    for name in ("share", "low", "high"):
        assert getattr(blocks, name) == pytest.approx(getattr(whole, name), abs=0.03)
    again = correct(MIX, many(RATES) // 1000, 500, rng())
    assert again.low == pytest.approx(blocks.low, abs=0)


@pytest.mark.parametrize(("num_classes", "num_images", "one_class"), [(5, 20, False), (5, 20, True), (21, 20, True)])
def test_intervals_hold_and_correcting_is_better_than_counting(
    num_classes: int, num_images: int, one_class: bool
) -> None:
    generator, held, raw, corrected = rng(), [], [], []
    for _ in range(60 if num_classes == 5 else 25):
        rates = paired_rates(num_classes, 0.85, generator)
        mix = generator.dirichlet(np.ones(num_classes))
        if one_class:
            mix = 0.1 * mix + 0.9 * (np.arange(num_classes) == 0)
        tiles = generator.multinomial(1000, mix)
        true, counted = tiles / 1000, generator.multinomial(tiles, rates).sum(axis=0) / 1000
        found = correct(counted, generator.multinomial(num_images, rates), 1000, generator, 200)
        held += list(((found.low <= true) & (true <= found.high))[true == true.max()])
        raw.append(counted - true)
        corrected.append(found.share - true)
    assert np.mean(held) > 0.88  # of 95 %, of the largest class, whose interval is the hardest
    assert np.sqrt(np.mean(np.square(corrected))) < 0.8 * np.sqrt(np.mean(np.square(raw)))


@pytest.mark.parametrize(
    ("counted", "confusion", "num_tiles", "reason"),
    [
        ([1, 2], np.eye(3, dtype=int), 10, "do not fit"),
        ([[1, 2]], np.eye(2, dtype=int), 10, "do not fit"),
        ([1, -2], np.eye(2, dtype=int), 10, "not negative"),
        ([1, np.inf], np.eye(2, dtype=int), 10, "finite"),
        ([0, 0], np.eye(2, dtype=int), 10, "not all 0"),
        ([1, 2], np.array([[1, 0], [-1, 1]]), 10, "no negative"),
        ([1, 2], np.array([[1, 0], [0, 0]]), 10, "class 1 has no test images"),
        ([1, 2], np.eye(2, dtype=int), 0, "must be positive"),
        ([1, 2], np.eye(2, dtype=int), np.nan, "must be positive"),
    ],
)
def test_refuses(counted: list[float], confusion: np.ndarray, num_tiles: float, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        correct(np.array(counted, float), confusion, num_tiles, rng())

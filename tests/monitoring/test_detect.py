"""The tests of drift against scipy, and by how often they raise an alarm: without a reason, and with one."""

import json
import math

import numpy as np
import pytest
from scipy import stats

from landuse.monitoring.detect import chi2_p_value, columns, compare, homogeneity, ks_distance, ks_p_value
from landuse.monitoring.reference import Reference, Rows, make_reference
from landuse.monitoring.statistics import NAMES
from tests.monitoring.scenes import CLASSES, Scene, reference, scene


def rows(made: Reference, seed: int, n: int, **changes: float) -> Rows:
    return made.rows_of(*scene(seed, n, **changes))


def sample(seed: int, n: int, has_ties: bool) -> np.ndarray:
    values = np.random.default_rng(seed).normal(seed / 10, 1, n).astype(np.float32)
    return np.round(values) if has_ties else values


@pytest.mark.parametrize("has_ties", [False, True])
@pytest.mark.parametrize(("n", "m"), [(1, 1), (7, 5), (300, 200)])
def test_the_distance_is_scipys(n: int, m: int, has_ties: bool) -> None:
    first, second = sample(0, n, has_ties), sample(3, m, has_ties)
    assert ks_distance(first, second) == pytest.approx(stats.ks_2samp(first, second).statistic, abs=1e-12)


@pytest.mark.parametrize(("n", "m"), [(40, 50), (105, 50), (315, 50), (420, 200), (2000, 50), (2000, 200)])
def test_p_values_are_near_the_exact_ones(n: int, m: int) -> None:
    """Also where many tests and a small alpha ask for very small ones; moved apart samples have every distance."""
    first = np.arange(n) / n
    compared = 0
    for shift in np.linspace(0.02, 0.5, 40):
        second = (np.arange(m) + 0.5) / m + shift
        exact = stats.ks_2samp(first, second, method="exact")
        if exact.pvalue > 1e-6:
            tolerance = 0.1 if exact.pvalue > 1e-5 else 0.2
            assert ks_p_value(exact.statistic, n, m) == pytest.approx(exact.pvalue, rel=tolerance)
            compared += 1
    assert compared > 10


def test_p_values_lie_between_0_and_1() -> None:
    distances = np.linspace(0, 1, 1001)
    for n, m in ((1, 1), (2000, 1000)):
        p_values = [ks_p_value(distance, n, m) for distance in distances]
        assert p_values[0] == 1 and min(p_values) >= 0
        assert all(np.diff(p_values) <= 0)


@pytest.mark.parametrize("freedom", [1, 2, 3, 8, 19, 20, 401])
def test_the_chi_square_distribution_is_scipys(freedom: int) -> None:
    for statistic in (0.0, 1e-9, 0.3, freedom / 2, freedom, 2 * freedom + 20, 5 * freedom + 100):
        assert chi2_p_value(statistic, freedom) == pytest.approx(
            stats.chi2.sf(statistic, freedom), rel=1e-9, abs=1e-300
        )
    assert chi2_p_value(0.0, 0) == 1


def test_homogeneity_of_common_classes_is_scipys() -> None:
    first, second = np.array([60, 80, 100, 90]), np.array([30, 20, 60, 50])
    expected = stats.chi2_contingency([first, second], correction=False)
    assert homogeneity(first, second) == pytest.approx((expected.statistic, expected.dof))


def test_rare_classes_are_counted_together() -> None:
    first, second = np.array([100, 3, 200, 0, 6, 0]), np.array([50, 2, 98, 0, 1, 0])
    pooled = np.array([[109, 200], [53, 98]])  # the rare ones are too few even together
    expected = stats.chi2_contingency(pooled, correction=False)
    assert homogeneity(first, second) == pytest.approx((expected.statistic, 1))
    assert homogeneity(np.array([4, 0]), np.array([2, 1])) == (0, 0)
    assert homogeneity(np.array([400, 0]), np.array([200, 0])) == (0, 0)


def test_rare_classes_are_those_of_the_smaller_row() -> None:
    few, many = np.array([8, 6, 3, 3]), np.array([500, 250, 150, 100])
    pooled = np.array([[8, 6, 6], [500, 250, 250]])  # of the last two 3 and 2 are expected among twenty
    expected = stats.chi2_contingency(pooled, correction=False)
    assert homogeneity(few, many) == pytest.approx((expected.statistic, 2))
    assert homogeneity(many, few) == pytest.approx((expected.statistic, 2))


def test_everything_is_tested_and_said_in_json() -> None:
    made = reference()
    result = compare(made, rows(made, 1, 100), 0.001, 50)
    assert json.loads(json.dumps(result)) == result
    assert (result["state"], result["num_images"], result["min_images"], result["alpha"]) == ("ok", 100, 50, 0.001)
    features = {f"feature {i + 1}" for i in range(len(made.components))}
    assert {test["name"] for test in result["tests"]} == {*NAMES, *features, "confidence", "predicted classes"}
    assert sorted(test["p_value"] for test in result["tests"]) == [test["p_value"] for test in result["tests"]]
    (light,) = (test for test in result["tests"] if test["name"] == "red")
    before, now = next((a, b) for _, name, a, b in columns(made, rows(made, 1, 100)) if name == "red")
    assert (light["before"], light["now"]) == (np.median(before), np.median(now))


def test_the_correction_is_holms() -> None:
    """As published: the smallest p-value times the number of tests, the next times one less, and never decreasing."""
    made = reference()
    tests = compare(made, rows(made, 1, 100, brighter=6), 0.05)["tests"]
    p_values = [test["p_value"] for test in tests]
    stepped = [min(1, (len(tests) - i) * p) for i, p in enumerate(p_values)]
    assert [test["adjusted_p_value"] for test in tests] == pytest.approx(np.maximum.accumulate(stepped))
    rejected = next(i for i, p in enumerate(p_values) if p > 0.05 / (len(tests) - i))
    assert rejected > 0
    assert [test["drifted"] for test in tests] == [i < rejected for i in range(len(tests))]


def test_few_images_tell_nothing() -> None:
    made = reference()
    for n in (0, 49):
        result = compare(made, rows(made, 1, n, brighter=100), 0.001, 50)
        assert (result["state"], result["num_images"], result["tests"]) == ("too_few", n, [])
    assert compare(made, rows(made, 1, 50, brighter=100), 0.001, 50)["state"] == "drift"


@pytest.mark.parametrize("n", [60, 300])
def test_without_a_reason_alarms_are_as_rare_as_stated(n: int) -> None:
    """500 windows of 60 images against references of n others, each pair new: at most 5 % and two standard errors."""
    alarms = 0
    for seed in range(500):
        made = make_reference(*scene(2 * seed, n, side=8))
        alarms += compare(made, rows(made, 2 * seed + 1, 60, side=8), 0.05)["state"] == "drift"
    assert alarms <= 500 * (0.05 + 2 * math.sqrt(0.05 * 0.95 / 500))


def test_many_features_and_few_images_of_a_reference_raise_no_more_alarms() -> None:
    """200 windows of 1000 images against references of 60, whose components are far from determined by them."""

    def wide(seed: int, n: int) -> Scene:
        images, probabilities, _ = scene(seed, n, side=8)
        return images, probabilities, np.random.default_rng(seed).standard_normal((n, 512), np.float32)

    alarms = 0
    for seed in range(200):
        made = make_reference(*wide(2 * seed, 60))
        alarms += compare(made, made.rows_of(*wide(2 * seed + 1, 1000)), 0.05)["state"] == "drift"
    assert alarms <= 200 * (0.05 + 2 * math.sqrt(0.05 * 0.95 / 200))


def test_a_class_that_becomes_frequent_is_found() -> None:
    made = reference()
    images, probabilities, features = scene(1, 100)
    probabilities[:40] = np.eye(CLASSES)[2] * 0.9 + 0.1 / CLASSES
    result = compare(made, made.rows_of(images, probabilities, features), 0.001)
    assert "predicted classes" in [test["name"] for test in result["tests"] if test["drifted"]]


@pytest.mark.parametrize(
    ("changes", "kind"), [({"brighter": 30.0}, "image"), ({"shift": 1.0}, "feature")], ids=["brighter", "features"]
)
def test_what_changed_is_named(changes: dict[str, float], kind: str) -> None:
    made = reference()
    result = compare(made, rows(made, 1, 100, **changes), 0.001)
    assert result["state"] == "drift"
    assert {test["kind"] for test in result["tests"] if test["drifted"]} == {kind}

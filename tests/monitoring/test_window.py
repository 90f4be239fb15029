"""The window: what it remembers, what it says, and that threads may share it."""

import threading

import numpy as np
import pytest

from landuse.monitoring.detect import compare
from landuse.monitoring.reference import Reference
from landuse.monitoring.window import Window
from tests.monitoring.scenes import reference, scene


@pytest.fixture(scope="module")
def made() -> Reference:
    return reference()


def test_the_newest_images_are_compared(made: Reference) -> None:
    window = Window(made, size=100, min_images=50, alpha=0.001)
    assert (window.result()["state"], window.result()["num_images"]) == ("too_few", 0)
    window.add(*scene(1, 30))
    assert (window.result()["state"], window.result()["num_images"]) == ("too_few", 30)
    window.add(*scene(2, 60, brighter=60))
    assert (window.result()["state"], window.result()["num_images"]) == ("drift", 90)
    for seed in (3, 4, 5, 6):
        window.add(*scene(seed, 30))
    result = window.result()
    assert (result["state"], result["num_images"], result["window"]) == ("ok", 100, 100)


@pytest.mark.parametrize("batches", [[100], [1] * 100, [7] * 14 + [2], [40, 60], [150], [30, 0, 170], [99, 102]])
def test_it_holds_exactly_the_newest(made: Reference, batches: list[int]) -> None:
    images, probabilities, features = scene(1, sum(batches))
    window, start = Window(made, 100, 10, 0.001), 0
    for n in batches:
        part = slice(start, start + n)
        window.add(images[part], probabilities[part], features[part])
        start += n
    expected = made.rows_of(images[-100:], probabilities[-100:], features[-100:])
    for kept, values in zip(window.rows(), expected, strict=True):
        assert np.array_equal(np.sort(kept, axis=0), np.sort(values, axis=0))
    assert window.result() == compare(made, expected, 0.001, 10) | {"window": 100}


def test_a_result_is_kept_until_images_come(made: Reference) -> None:
    window = Window(made, 100, 10, 0.001)
    window.add(*scene(1, 50))
    first = window.result()
    assert window.result() is first
    window.add(*scene(2, 1))
    assert window.result()["num_images"] == 51


def test_threads_may_add_and_ask(made: Reference) -> None:
    window, results = Window(made, 64, 10, 0.001), []
    is_over = threading.Event()

    def add(seed: int) -> None:
        for i in range(40):
            window.add(*scene(1000 * seed + i, 5))

    def ask() -> None:
        while not is_over.is_set():
            results.append(window.result())

    adding, asking = ([threading.Thread(target=f, args=a) for a in args] for f, args in
                      ((add, [(1,), (2,), (3,)]), (ask, [(), ()])))  # fmt: skip
    for thread in (*adding, *asking):
        thread.start()
    for thread in adding:
        thread.join()
    is_over.set()
    for thread in asking:
        thread.join()
    assert {result["state"] for result in results} <= {"ok", "too_few"}
    assert window.result()["num_images"] == 64

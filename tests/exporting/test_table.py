"""The table that compares variants."""

import json
from pathlib import Path

import numpy as np

from landuse.evaluation.metrics import summarise
from landuse.exporting.speed import Speed, measure
from landuse.exporting.table import Row, sizes, write

FACTS = {"run": "uc1", "num_test_images": 4, "machine": "a CPU", "num_threads": 2}


def test_the_table_says_what_was_measured(tmp_path: Path) -> None:
    test = summarise(np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.7, 0.3]]), np.array([0, 1, 1, 0]), ["a", "b"])
    rows = [
        Row("fp32", 11_210_000, 10_410_000, 2_800_437, 0.9095, test, Speed(2.104, (2.0, 2.5), 512.4)),
        Row("pruned", None, None, 1_200_000, 0.5, note="refused | not written"),
    ]
    text = write(tmp_path, rows, FACTS)
    header, _, first, second = ([cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines())
    assert len(header) == len(first) == len(second)
    assert first[:6] == ["fp32", "11.21", "10.41", "2,800,437", "0.9095", "0.7500 (0.3006 to 0.9544)"]
    assert first[7:9] == ["2.10 (2.00 to 2.50)", "512"]
    assert second == ["pruned", "", "", "1,200,000", "0.5000", "", "", "", "", "refused / not written"]
    page = (tmp_path / "export.md").read_text()
    assert text in page and "the same 4 images" in page
    content = json.loads((tmp_path / "export.json").read_text())
    assert content["variants"][0]["test"]["accuracy"] == 0.75
    assert content["variants"][0]["speed"]["images_per_second"] == 512.4
    assert content["variants"][1]["test"] is None


def test_zeros_are_worth_something_after_compression(tmp_path: Path) -> None:
    weights = np.random.default_rng(0).normal(size=10_000).astype(np.float32)
    (tmp_path / "dense").write_bytes(weights.tobytes())
    (tmp_path / "sparse").write_bytes(np.where(np.abs(weights) > 0.7, weights, 0).astype(np.float32).tobytes())
    dense, sparse = sizes(tmp_path / "dense"), sizes(tmp_path / "sparse")
    assert dense[0] == sparse[0] == 40_000
    assert sparse[1] < 0.7 * dense[1]


def test_variants_are_measured_in_turn() -> None:
    calls: list[tuple[str, int]] = []
    runs = {name: lambda images, name=name: calls.append((name, len(images))) for name in ("a", "b")}
    speeds = measure(runs, 8)
    assert speeds.keys() == {"a", "b"}
    warm, rounds = calls[:4], calls[4:]
    assert warm == [("a", 1), ("a", 32), ("b", 1), ("b", 32)]
    one_round = [("a", 1)] * 11 + [("a", 32)] + [("b", 1)] * 11 + [("b", 32)]
    assert rounds[:24] == one_round and len(rounds) % 24 == 0
    low, high = speeds["a"].latency_spread_ms
    assert 0 < low <= speeds["a"].latency_ms <= high

"""The report is one safe, complete page, and a bad run folder is named with cause and cure."""

import base64
import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from landuse.errors import UserError
from landuse.evaluation.metrics import summarise
from landuse.evaluation.report import ReportError, write_report
from tests.pages import Page

HOSTILE = "<script>alert('x')</script>&amp;\"><img src=//evil>"
CLASSES = ["forest", HOSTILE, "river"]
FIGURES = ["confusion", "curves", "mistakes", "per_class", "reliability"]


def write_json(path: Path, record: object) -> None:
    path.write_text(json.dumps(record))


def update_json(path: Path, **changes: Any) -> None:
    write_json(path, {**json.loads(path.read_text()), **changes})


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run of three epochs with its evaluation and figures."""
    run = tmp_path / "a run"
    (run / "figures").mkdir(parents=True)
    (run / "config.yaml").write_text(
        f"model: {{name: resnet18}}\ndata: {{name: {json.dumps(HOSTILE)}}}\ntrainer: {{epochs: 3}}\n"
    )
    line = {"train/loss": 0.5, "val/loss": 0.6, "val/accuracy": 0.8125, "lr": 1e-3, "images_per_second": 812.0}
    lines = [json.dumps({"epoch": epoch, **line, "seconds": 2.5}) for epoch in (0, 1, 2)]
    (run / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    write_json(
        run / "summary.json",
        {"best_epoch": 1, "val/accuracy": 0.8125, "val/loss": 0.6, "parameters": 11_187_285, "train_seconds": 763.2,
         "images_per_second": 812.0, "status": "completed"},
    )  # fmt: skip
    write_json(
        run / "provenance.json",
        {"git_commit": "9f1c2ab", "git_dirty": False, "split_fingerprint": "77aa", "seed": 0, "cuda": None,
         "hardware": {"device_name": HOSTILE}, "command_line": "python -m landuse.train 'data.root=a b'"},
    )  # fmt: skip
    summary = summarise(np.eye(3)[[0, 1, 2, 2]] * 0.7 + 0.1, np.array([0, 1, 2, 1]), CLASSES)
    how = {"split": "test", "test_time_augmentation": False, "data_fingerprint": None, "split_fingerprint": "77aa",
           "model_fingerprint": "beef", "device": "cpu", "precision": "fp32", "seconds": 1.9}  # fmt: skip
    write_json(run / "evaluation.json", {**summary, **how})
    for shade, name in enumerate(FIGURES):
        Image.new("L", (40 + shade, 20), shade).save(run / "figures" / f"{name}.png")
    return run


def test_everything_is_on_the_page(run_dir: Path) -> None:
    path = write_report(run_dir)
    page = Page(path)
    assert path == run_dir / "report.html"
    for expected in (
        "75.0 %", "accuracy on 4 images of the test split", "95 % interval 30.1 % to 95.4 %", "11.2 million",
        "12 min 43 s", "2 (best)", "completed", "git checkout 9f1c2ab", "python -m landuse.train 'data.root=a b'",
        "hardware.device name", "name: resnet18", "Most frequent confusions", "3 of 3 epochs",
    ):  # fmt: skip
        assert expected in page.text, expected
    assert "not the split of the training" not in page.text


def test_figures_are_embedded_and_nothing_is_loaded(run_dir: Path) -> None:
    page = Page(write_report(run_dir))
    sources = [image["src"] or "" for image in page.attributes("img")]
    embedded = {base64.b64decode(source.removeprefix("data:image/png;base64,")) for source in sources}
    assert embedded == {path.read_bytes() for path in (run_dir / "figures").iterdir()}
    for name, attributes in page.tags:
        assert name not in {"script", "link", "iframe", "object", "embed", "base"}
        assert not any(key.startswith("on") for key in attributes)
        assert (attributes.get("src") or "data:").startswith("data:")
        assert (attributes.get("href") or "#").startswith("#")
        assert "url(" not in (attributes.get("style") or "")
    style = write_report(run_dir).read_text(encoding="utf-8").partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style


def test_what_comes_from_files_is_escaped(run_dir: Path) -> None:
    update_json(run_dir / "summary.json", status=HOSTILE)
    page = Page(write_report(run_dir))
    assert f"resnet18 on {HOSTILE}" in page.text
    assert page.text.count(HOSTILE) >= 5  # title, heading, classes, device, status
    assert len(page.attributes("img")) == len(FIGURES)
    assert any(HOSTILE in (image["alt"] or "") for image in page.attributes("img"))


def test_page_is_accessible(run_dir: Path) -> None:
    page = Page(write_report(run_dir))
    levels = [int(name[1]) for name, _ in page.tags if name in {"h1", "h2", "h3"}]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert all(image["alt"] and image["width"] and image["height"] for image in page.attributes("img"))
    assert all(head["scope"] in {"row", "col"} for head in page.attributes("th"))
    identifiers = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    targets = {(link["href"] or "").removeprefix("#") for link in page.attributes("a")}
    assert targets <= set(identifiers)
    assert {"lang": "en"} in page.attributes("html")


def test_run_without_evaluation_says_how_to_make_one(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (run_dir / "evaluation.json").unlink()
    monkeypatch.chdir(run_dir.parent)
    page = Page(write_report(run_dir))
    assert """python -m landuse.evaluate "run='a run'\"""" in page.text
    assert "validation accuracy, epoch 2" in page.text
    assert len(page.attributes("img")) == 1  # the curves; the others belong to an evaluation


def test_missing_figures_are_left_out_and_further_ones_shown(run_dir: Path) -> None:
    for path in (run_dir / "figures").glob("*s.png"):
        path.unlink()
    Image.new("L", (4, 4)).save(run_dir / "figures" / "saliency.png")
    page = Page(write_report(run_dir))
    assert len(page.attributes("img")) == len(FIGURES) - 3 + 1
    assert "Further figures" in page.text
    assert "Most confident mistakes" not in page.text


@pytest.mark.parametrize("status", ["interrupted", "failed", "pruned"])
def test_unfinished_run_is_marked(run_dir: Path, status: str) -> None:
    update_json(run_dir / "summary.json", status=status)
    lines = (run_dir / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run_dir / "metrics.jsonl").write_text("".join(lines[:2]))
    assert f"{status.capitalize()} after 2 of 3 epochs." in Page(write_report(run_dir)).text


def test_line_that_a_crash_cut_short_is_no_epoch(run_dir: Path) -> None:
    path = run_dir / "metrics.jsonl"
    path.write_text(path.read_text() + '{"epoch": 3, "train/lo')
    assert "3 of 3 epochs" in Page(write_report(run_dir)).text


def test_run_that_ended_before_its_first_epoch(run_dir: Path) -> None:
    (run_dir / "metrics.jsonl").write_text("")
    (run_dir / "evaluation.json").unlink()
    nothing = {"val/accuracy": None, "val/loss": None, "best_epoch": None, "images_per_second": None}
    update_json(run_dir / "summary.json", status="interrupted", **nothing)
    assert "No result: no epoch was finished." in Page(write_report(run_dir)).text


def test_dirty_code_and_another_split_are_pointed_out(run_dir: Path) -> None:
    update_json(run_dir / "provenance.json", git_dirty=True, split_fingerprint="other")
    text = Page(write_report(run_dir)).text
    assert "changes that were not committed" in text
    assert "not the split of the training" in text


def test_same_files_give_the_same_page_and_no_other_file(run_dir: Path) -> None:
    first = write_report(run_dir).read_bytes()
    before = sorted(run_dir.iterdir())
    assert write_report(run_dir).read_bytes() == first
    assert sorted(run_dir.iterdir()) == before


def test_a_lone_surrogate_does_not_cost_the_page(run_dir: Path) -> None:
    update_json(run_dir / "provenance.json", platform="\ud800")
    assert "?" in Page(write_report(run_dir)).text


@pytest.mark.parametrize("name", ["config.yaml", "metrics.jsonl", "summary.json", "provenance.json"])
def test_missing_file_is_named(run_dir: Path, name: str) -> None:
    (run_dir / name).unlink()
    with pytest.raises(ReportError, match=rf"{name} is missing.*run=<folder>"):
        write_report(run_dir)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.yaml", b"a: [", "config.yaml is not valid YAML"),
        ("config.yaml", b"- 1", "holds no configuration"),
        ("config.yaml", b"\xff", "is damaged"),
        ("metrics.jsonl", b'{"epoch": 1\n', "metrics.jsonl, line 1 is not valid JSON"),
        ("metrics.jsonl", b'{"epoch": 1}\n', "metrics.jsonl, line 1 lacks the key 'train/loss'"),
        ("summary.json", b"[]", "summary.json holds no mapping"),
        ("summary.json", b'{"best_epoch": "two"}', "'best_epoch' has the unexpected value 'two'"),
        ("provenance.json", b"", "provenance.json is not valid JSON"),
        ("evaluation.json", b"{}", "evaluation.json lacks the key 'num_images'"),
        ("config.yaml", b"[" * 3000, "config.yaml is not valid YAML"),
        ("config.yaml", b"a: " + b"1" * 5000, "config.yaml is not valid YAML"),
        ("provenance.json", b'{"a":' * 3000 + b"1" + b"}" * 3000, "provenance.json is not valid JSON"),
        ("provenance.json", b'{"a":' * 30 + b"1" + b"}" * 30, "nested more than 20 times"),
        ("summary.json", b'{"best_epoch": ' + b"1" * 5000 + b"}", "summary.json is not valid JSON"),
        ("summary.json", b'{"train_seconds": 1' + b"0" * 400 + b"}", "'train_seconds' has more than 64 bits"),
        ("summary.json", b'{"train_seconds": Infinity}', "'train_seconds' is not finite"),
        ("metrics.jsonl", b'{"val/accuracy": 1e308}\n', "'val/accuracy' is not finite"),
        ("figures/curves.png", b"GIF89a", "curves.png is not a PNG file"),
        ("figures/curves.png", b"\x89PNG\r\n\x1a\n", "curves.png is not a PNG file"),
    ],
)
def test_damaged_file_is_named(run_dir: Path, name: str, content: bytes, message: str) -> None:
    (run_dir / name).write_bytes(content)
    with pytest.raises(ReportError, match=message):
        write_report(run_dir)
    assert not (run_dir / "report.html").exists()


@pytest.mark.parametrize(
    "name",
    ["config.yaml", "metrics.jsonl", "summary.json", "provenance.json", "evaluation.json", "figures/curves.png"],
)
@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_what_is_no_file_is_named(run_dir: Path, name: str, make: Callable[[Path], None]) -> None:
    (run_dir / name).unlink()
    make(run_dir / name)
    with pytest.raises(ReportError, match=f"{name} is no file"):
        write_report(run_dir)


def test_a_loss_may_be_infinite(run_dir: Path) -> None:
    update_json(run_dir / "evaluation.json", loss=float("inf"))
    assert "inf" in Page(write_report(run_dir)).text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"confusion_matrix": [[1, 2], [3, 4]]}, "confusion_matrix is no table of counts for 3 classes"),
        ({"confusion_matrix": [[1, -1, 0]] * 3}, "confusion_matrix is no table of counts"),
        ({"confusion_matrix": [[1, 2, "3"]] * 3}, "confusion_matrix is no table of counts"),
        ({"accuracy_ci95": [0.1]}, "accuracy_ci95 must be two numbers"),
        ({"per_class": {}}, "name different classes"),
        ({"per_class": {name: {"precision": 1} for name in CLASSES}}, "lacks the key 'recall'"),
    ],
)
def test_evaluation_that_contradicts_itself_is_refused(run_dir: Path, changes: dict[str, Any], message: str) -> None:
    update_json(run_dir / "evaluation.json", **changes)
    with pytest.raises(ReportError, match=message):
        write_report(run_dir)


ROBUSTNESS = {
    "num_images": 420, "clean": 0.936, "severities": [1, 2], "accuracy": {"blur": [0.869, 0.674], HOSTILE: [0.9, 0.8]},
    "mean": [0.884, 0.737], "mean_accuracy": 0.811, "split": "test", "test_time_augmentation": True,
    "model_fingerprint": "beef",
}  # fmt: skip


def test_robustness_is_shown_where_it_was_measured(run_dir: Path) -> None:
    assert "Robustness" not in Page(write_report(run_dir)).text
    write_json(run_dir / "robustness.json", ROBUSTNESS)
    Image.new("L", (40, 20)).save(run_dir / "figures/robustness.png")
    page = Page(write_report(run_dir))
    for text in ("93.6 % as they are", "81.1 % in the mean", "severity 2", "67.4 %", "73.7 %", HOSTILE, "symmetries"):
        assert text in page.text
    assert "#robustness" in [link["href"] for link in page.attributes("a")]
    assert "Further figures" not in page.text


def test_robustness_of_other_weights_is_not_shown(run_dir: Path) -> None:
    write_json(run_dir / "robustness.json", {**ROBUSTNESS, "model_fingerprint": "other"})
    Image.new("L", (40, 20)).save(run_dir / "figures/robustness.png")
    page = Page(write_report(run_dir))
    assert "Robustness" not in page.text and "#robustness" not in [link["href"] for link in page.attributes("a")]
    assert "Further figures" not in page.text
    (run_dir / "evaluation.json").unlink()
    assert "Robustness" not in Page(write_report(run_dir)).text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mean": [0.5]}, "no table of accuracies"),
        ({"accuracy": {"blur": 0.5}}, "no table of accuracies"),
        ({"severities": [1, "2"]}, "no table of accuracies"),
        ({"clean": None}, "'clean' has the unexpected value"),
    ],
)
def test_robustness_that_is_none_is_refused(run_dir: Path, changes: dict[str, Any], message: str) -> None:
    write_json(run_dir / "robustness.json", {**ROBUSTNESS, **changes})
    with pytest.raises(ReportError, match=message):
        write_report(run_dir)


def test_no_run_folder_at_all(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="there is no run folder"):
        write_report(tmp_path / "nowhere")
    assert issubclass(ReportError, UserError)
    assert issubclass(ReportError, ValueError)

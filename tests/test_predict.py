"""The command predict: what it writes, and what it makes of files, names and readers of all sorts."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import numpy as np
import onnx
import pytest
from PIL import Image

from landuse import progress
from landuse.serving.artifact import describe
from tests.conftest import overrides
from tests.run_folders import commands
from tests.serving.tiny_model import picture, write_exported

NO_UTF8 = os.fsdecode(b"caf\xe9.png")
STRANGE_NAMES = ["a, b.png", 'say "x".png', "line\nbreak.png", "return\r.png", "=1+1.png", "größe.png", NO_UTF8]
PROBE = """
import atexit, runpy, sys
atexit.register(lambda: print("TORCH", "torch" in sys.modules, file=sys.stderr))
sys.argv = ["predict", *{arguments!r}]
runpy.run_module("landuse.predict", run_name="__main__")
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"run={write_exported(tmp_path_factory.mktemp('model'))}"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """The first of three tiles cannot be read."""
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "tile1.png").write_bytes(b"damaged")
    write(folder / "tile2.png", "water")
    write(folder / "tile10.png", "roof")
    return folder


def write(path: Path, name: str) -> None:
    with path.open("wb") as file:
        Image.fromarray(picture(name)).save(file, "PNG")


def rows(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline=""), strict=True))


def test_csv(command, model: str, photos: Path) -> None:
    done = command("predict", model, f"input={photos}", "predict.format=csv")
    assert done.status == 0, done.err
    header, first, second = rows(done.out)
    assert header == ["path", "class", "probability"]
    assert first[:2] == [f"{photos}/tile2.png", "water"] and 0.9 < float(first[2]) < 1
    assert second[:2] == [f"{photos}/tile10.png", "roof"]
    assert "tile1.png is not a readable image" in done.err
    assert "predicted 2 of 3 files" in done.err


def test_csv_of_all_classes(command, model: str, photos: Path) -> None:
    done = command("predict", model, f"input={photos}", "predict.format=csv", "predict.top_n=99")
    header, first, _ = rows(done.out)
    assert header == ["path", "class", "probability", "class_2", "probability_2", "class_3", "probability_3"]
    assert first[1::2] == ["water", "field", "roof"]
    probabilities = [np.float32(cell) for cell in first[2::2]]
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) == pytest.approx(1, abs=1e-6)


def test_jsonl_has_a_line_for_every_file(command, model: str, photos: Path) -> None:
    done = command("predict", model, f"input={photos}", "predict.format=jsonl", "predict.top_n=2")
    assert done.status == 0, done.err
    damaged, water, roof = map(json.loads, done.out.splitlines())
    assert damaged["path"] == f"{photos}/tile1.png" and "no known image format" in damaged["error"]
    assert [answer["class"] for answer in water["predictions"]] == ["water", "field"]
    assert roof["predictions"][0]["class"] == "roof" and "error" not in roof


def test_table(command, model: str, photos: Path) -> None:
    done = command("predict", model, f"input={photos}")
    assert done.status == 0, done.err
    assert [line.split() for line in done.out.splitlines()] == [
        ["class", "probability", "path"],
        ["water", "99.4%", f"{photos}/tile2.png"],
        ["roof", "98.1%", f"{photos}/tile10.png"],
    ]


def test_a_table_steers_no_terminal(command, model: str, tmp_path: Path) -> None:
    write(tmp_path / "\x1b[2J.png", "roof")
    done = command("predict", model, f"input={tmp_path}")
    assert done.out.endswith("\\x1b[2J.png\n")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("predict.top_n=0", "predict.top_n=0"),
        ("variant=int4", "variant"),
        ("variant=int8", "is the export fp32, and variant=int8 asks for another"),
        ("input=", "input="),
        ("input=a,b.png", "\"input='a,b.png'\""),
        ("data.quality.value_range=[2,1]", "low < high"),
    ],
)
def test_mistakes(command, model: str, photos: Path, override: str, message: str) -> None:
    done = command("predict", model, *([] if "input" in override else [f"input={photos}"]), override)
    assert done.status == 2
    assert message in done.err and "Traceback" not in done.err


def test_deep_images_are_scaled_as_asked(command, model: str, tmp_path: Path) -> None:
    Image.fromarray(np.full((16, 16), 40_000, np.uint16)).save(tmp_path / "deep.png")
    line = ["predict", model, f"input={tmp_path}/deep.png", "predict.format=csv"]
    refused = command(*line)
    assert refused.status == 1 and "give data.quality.value_range=[low,high]" in refused.err
    done = command(*line, "data.quality.value_range=[0,65535]")
    assert done.status == 0 and len(rows(done.out)) == 2


@pytest.mark.parametrize("name", ["results.csv", "results.jsonl"])
def test_the_suffix_tells_the_format(command, model: str, photos: Path, tmp_path: Path, name: str) -> None:
    assert command("predict", model, f"input={photos}", f"predict.output={tmp_path}/{name}").status == 0
    first = (tmp_path / name).read_text().splitlines()[0]
    assert first.startswith("path,class" if name.endswith("csv") else '{"path"')


def test_none_of_the_files_can_be_used(command, model: str, photos: Path) -> None:
    done = command("predict", model, f"input={photos}/tile1.png", "predict.format=csv")
    assert done.status == 1
    assert "None of the 1 files could be used" in done.err and "Traceback" not in done.err
    assert rows(done.out) == [["path", "class", "probability"]]


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_any_file_name_survives(command, model: str, tmp_path: Path, form: str) -> None:
    folder, output = tmp_path / "names", tmp_path / "out" / "results"
    folder.mkdir()
    for name in STRANGE_NAMES:
        write(folder / name, "field")
    done = command("predict", model, f"input={folder}", f"predict.format={form}", f"predict.output={output}")
    assert done.status == 0, done.err
    assert done.out == ""
    text = output.read_bytes().decode("utf-8", "surrogateescape")
    if form == "csv":
        found = [row[0] for row in rows(text)[1:]]
    else:
        found = [json.loads(line)["path"] for line in text.splitlines()]
    assert {Path(path).name for path in found} == set(STRANGE_NAMES)


def test_an_output_file_is_replaced_as_a_whole(command, model: str, photos: Path, tmp_path: Path) -> None:
    output = tmp_path / "results.csv"
    output.write_text("old")
    assert command("predict", model, "input=absent", f"predict.output={output}").status == 2
    assert output.read_text() == "old"
    done = command("predict", model, f"input={photos}", "predict.format=csv", f"predict.output={output}")
    assert done.status == 0, done.err
    assert len(rows(output.read_text())) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos", "results.csv"]


@pytest.mark.parametrize("output", ["photos", "/dev/null"])
def test_what_is_no_file_is_not_replaced(command, model: str, photos: Path, output: str) -> None:
    done = command("predict", model, f"input={photos}", f"predict.output={output}")
    assert done.status == 2
    assert "is no regular file" in done.err
    assert not Path(output).is_file()


def test_predictions_that_are_no_numbers_are_not_written(command, tmp_path: Path) -> None:
    """Of weights so large that bright images alone show it."""
    Image.new("RGB", (16, 16), "white").save(tmp_path / "white.png")
    folder = write_exported(tmp_path / "model")
    info = json.loads((folder / "onnx.json").read_text())
    graph = onnx.load(folder / "model.onnx")
    (weights,) = (constant for constant in graph.graph.initializer if constant.name == "weights")
    weights.CopyFrom(onnx.numpy_helper.from_array(np.full((4, 3), 2e38, np.float32), "weights"))
    onnx.save(graph, folder / "model.onnx")
    describe(folder, {key: info[key] for key in info if key != "onnx_sha256"})
    done = command("predict", f"run={folder}", "input=white.png", "predict.format=csv")
    assert done.status == 2
    assert "no numbers" in done.err
    assert len(rows(done.out)) == 1


def test_progress_is_on_stderr(command, model: str, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.0)
    done = command("predict", model, f"input={photos}", "predict.format=csv", "predict.batch_size=1")
    assert "2 of 3 files" in done.err
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    progress.terminal.cache_clear()
    with_bar = command("predict", model, f"input={photos}", "predict.format=csv")
    progress.terminal.cache_clear()
    assert "predicting" in with_bar.err
    assert with_bar.out == done.out


@pytest.fixture(scope="module")
def trained(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which a run was trained and evaluated."""
    where = tmp_path_factory.mktemp("trained")
    commands(where, ["train", *overrides(image_folder, where), "hardware.num_threads=1"], ["evaluate"])
    return where


def run(*arguments: str, stdin: bytes, cwd: Path) -> "subprocess.CompletedProcess[bytes]":
    line = [sys.executable, "-m", "landuse.predict", *arguments]
    return subprocess.run(line, input=stdin, cwd=cwd, capture_output=True, check=False)


def test_a_run_is_exported_where_it_has_not_been(trained: Path, image_folder: Path) -> None:
    """And answers as it did when it was evaluated."""
    line = ["run=outputs/latest", f"input={image_folder}", "predict.format=csv"]
    first, second = (run(*line, stdin=b"", cwd=trained) for _ in range(2))
    assert first.returncode == 0, first.stderr
    assert b"making it" in first.stderr and b"making it" not in second.stderr
    assert first.stdout == second.stdout
    with (trained / "outputs/latest/predictions.csv").open(newline="") as file:
        expected = {row["path"]: row["prediction"] for row in csv.DictReader(file)}
    found = {Path(row[0]).relative_to(image_folder).as_posix(): row[1] for row in rows(first.stdout.decode())[1:]}
    assert len(found) == 60
    assert {path: found[path] for path in expected} == expected


def test_files_listed_on_stdin(model: str, photos: Path) -> None:
    """In their order, as often as they are named; also names that are no UTF-8, in whatever language."""
    write(photos / NO_UTF8, "field")
    listed = b"tile10.png\n" + os.fsencode(NO_UTF8) + b"\ntile2.png\ntile10.png\n"
    done = run(model, "input=-", "predict.format=csv", stdin=listed, cwd=photos)
    assert done.returncode == 0, done.stderr
    found = rows(done.stdout.decode("utf-8", "surrogateescape"))
    assert [row[:2] for row in found[1:]] == [
        ["tile10.png", "roof"], [NO_UTF8, "field"], ["tile2.png", "water"], ["tile10.png", "roof"],
    ]  # fmt: skip


def test_torch_is_not_needed(model: str, photos: Path) -> None:
    program = PROBE.format(arguments=[model, f"input={photos}"])
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=photos, check=False)
    assert "TORCH False" in done.stderr
    assert len(done.stdout.splitlines()) == 3


@pytest.fixture
def endless(model: str, photos: Path, tmp_path: Path) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Starts predictions that would take long."""
    started: list[subprocess.Popen[str]] = []
    (tmp_path / "list").write_text(f"{photos}/tile2.png\n" * 300_000)

    def start(*arguments: str, stdout: IO | int = subprocess.PIPE) -> "subprocess.Popen[str]":
        line = [sys.executable, "-m", "landuse.predict", model, "input=-", "predict.format=csv", *arguments]
        with (tmp_path / "list").open() as stdin:
            process = subprocess.Popen(
                line, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, text=True, cwd=tmp_path
            )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def interrupt(process: "subprocess.Popen[str]", where: Path, pattern: str) -> None:
    """Press Ctrl-C once a file has content."""
    deadline = time.monotonic() + 60
    while not any(file.stat().st_size > 100 for file in where.glob(pattern)):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in err


def test_ctrl_c_leaves_what_was_written(endless, tmp_path: Path) -> None:
    with (tmp_path / "out.csv").open("w") as out:
        interrupt(endless(stdout=out), tmp_path, "out.csv")
    written = (tmp_path / "out.csv").read_text()
    assert written.endswith("\n")
    assert {tuple(row[1:2]) for row in rows(written)} == {("class",), ("water",)}


def test_ctrl_c_leaves_no_part_of_a_file(endless, tmp_path: Path) -> None:
    interrupt(endless("predict.output=results.csv"), tmp_path, ".results.csv.*")
    assert not list(tmp_path.glob("*results.csv*"))


def test_a_reader_who_has_seen_enough(endless) -> None:
    process = endless()
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=20) == 1
    errors = process.stderr.read()
    assert "Traceback" not in errors and "Error executing" not in errors

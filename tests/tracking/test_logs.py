"""What is said where: levels, libraries' warnings, the names of processes."""

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from landuse.config.schema import LogConfig
from landuse.tracking import logs
from tests.conftest import Run

own, library = logging.getLogger("landuse.test"), logging.getLogger("urllib3.test")


@pytest.fixture(autouse=True)
def afterwards() -> Iterator[None]:
    yield
    logs.stop()


def speak() -> None:
    own.debug("own debug")
    own.info("own info")
    own.warning("own warning")
    library.info("library info")
    library.warning("library warning")
    warnings.warn("from a library", UserWarning, stacklevel=1)


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        ("debug", {"own debug", "own info", "own warning", "library warning", "from a library"}),
        ("info", {"own info", "own warning", "library warning"}),
        ("warning", {"own warning", "library warning"}),
        ("error", set()),
    ],
)
@pytest.mark.filterwarnings("always")
def test_levels_of_stderr(capsys: pytest.CaptureFixture[str], tmp_path: Path, level: str, shown: set[str]) -> None:
    logs.to_stderr(LogConfig(level=level))  # type: ignore[arg-type]
    speak()  # before there is a file, which gets it all the same
    logs.to_file(tmp_path / "x.log")
    err, text = capsys.readouterr().err, (tmp_path / "x.log").read_text()
    said = {"own debug", "own info", "own warning", "library info", "library warning", "from a library"}
    assert {one for one in said if one in err} == shown
    assert {one for one in said if one in text} == said - {"library info"}


@pytest.mark.filterwarnings("always")
def test_level_of_the_file(tmp_path: Path) -> None:
    logs.to_stderr(LogConfig(file_level="warning"))
    logs.to_file(tmp_path / "x.log")
    speak()
    assert [line.split(": ")[-1] for line in (tmp_path / "x.log").read_text().splitlines()][:2] == [
        "own warning", "library warning",
    ]  # fmt: skip


def test_ranks_and_workers_are_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv("LANDUSE_SWEEP_WORKER", "3")
    logs.to_stderr()
    logs.to_file(tmp_path / "x.log")
    own.info("silent here")
    own.warning("silent, for all say it")
    own.error("heard")
    assert capsys.readouterr().err == "rank 1: heard\n"
    assert "INFO [worker 3, rank 1] landuse.test: silent here" in (tmp_path / "x.log").read_text()


def test_a_commands_level(command: Run, tiny: list[str], tmp_path: Path) -> None:
    done = command("train", *tiny, "run_name=x", "log.level=warning", "trainer.log_every=1")
    assert done.status == 0 and done.err == ""
    text = (tmp_path / "outputs/train/folder_cnn/x/train.log").read_text()
    assert "DEBUG landuse.training.loop: epoch 1, step 1" in text and "INFO landuse: epoch 1/2" in text

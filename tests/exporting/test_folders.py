"""A folder that carries its name is complete, whatever happens on the way."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from landuse.errors import UserError
from landuse.exporting.folders import building, claimed, publish

KILLED = """
import os, pathlib, sys
from landuse.exporting.folders import building, claimed, publish
export, rename, where = pathlib.Path(sys.argv[1]), pathlib.Path.replace, int(sys.argv[2])
steps = 0
def counted(self, target):
    global steps
    steps += 1
    if steps == where:
        os._exit(9)
    return rename(self, target)
pathlib.Path.replace = counted
with claimed(export), building(export, "fp32") as new:
    (new / "a").write_text("new")
    if where == 0:
        os._exit(9)
    (new / "b").write_text("new")
    publish(new, export / "fp32")
"""


def written(export: Path, text: str) -> None:
    with claimed(export), building(export, "fp32") as new:
        for name in ("a", "b"):
            (new / name).write_text(text)
        publish(new, export / "fp32")


def texts(export: Path) -> set[str]:
    return {(export / "fp32" / name).read_text() for name in ("a", "b")}


def test_a_folder_replaces_an_older_one(tmp_path: Path) -> None:
    for text in ("old", "new"):
        written(tmp_path / "export", text)
    assert texts(tmp_path / "export") == {"new"}
    assert {path.name for path in (tmp_path / "export").iterdir()} == {".lock", "fp32"}


def test_a_build_that_fails_leaves_the_older_one(tmp_path: Path) -> None:
    export = tmp_path / "export"
    written(export, "old")
    with pytest.raises(OSError, match="Not a directory"), claimed(export), building(export, "fp32") as new:  # noqa: PT012
        (new / "a").write_text("new")
        (new / "a" / "b").write_text("new")
    assert texts(export) == {"old"}
    assert {path.name for path in export.iterdir()} == {".lock", "fp32"}


@pytest.mark.parametrize("where", [0, 1, 2])
def test_a_kill_leaves_the_older_one(where: int, tmp_path: Path) -> None:
    """While it is built, before the older one is moved aside, and before the new one has its name."""
    export = tmp_path / "export"
    written(export, "old")
    killed = subprocess.run([sys.executable, "-c", KILLED, str(export), str(where)], check=False)
    assert killed.returncode == 9
    assert not (export / "fp32").exists() or texts(export) == {"old"}
    with claimed(export):  # the next one puts it right
        assert texts(export) == {"old"}
        assert {path.name for path in export.iterdir()} == {".lock", "fp32"}
    written(export, "new")
    assert texts(export) == {"new"}


def test_two_exports_take_turns(tmp_path: Path) -> None:
    export, order = tmp_path / "export", []

    def other() -> None:
        with claimed(export):
            order.append("other")

    with claimed(export):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join(0.3)
        order.append("first")
    thread.join()
    assert order == ["first", "other"]


@pytest.mark.parametrize("name", ["export", "export/triton"])
def test_a_link_out_of_the_run_folder_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run" / name).parent.mkdir(parents=True)
    (tmp_path / "run" / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="leads out of the run folder"), claimed(tmp_path / "run/export"):
        pass
    assert not list((tmp_path / "elsewhere").iterdir())


def test_what_a_stranger_left_is_removed_and_not_followed(tmp_path: Path) -> None:
    export, outside = tmp_path / "run/export", tmp_path / "outside"
    export.mkdir(parents=True)
    outside.mkdir()
    (outside / "kept").write_text("")
    (export / ".fp32.new").symlink_to(outside)
    (export / ".int8.old").symlink_to(outside)
    (export / ".pruned.new").write_text("")
    (export / "..old").mkdir()
    (export / ".anything.old").mkdir()
    with claimed(export):
        assert {path.name for path in export.iterdir()} == {".lock"}
    assert (outside / "kept").exists()


def test_a_model_of_the_repository_is_put_back(tmp_path: Path) -> None:
    """Its older folder waits outside the repository, in which every folder is a model."""
    (tmp_path / ".triton-landuse_fp32.old").mkdir()
    with claimed(tmp_path):
        assert (tmp_path / "triton/landuse_fp32").is_dir()

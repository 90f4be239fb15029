"""What other systems lack or do differently, taken away from this one."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

import pytest

from landuse import files, runs
from landuse.config import folders
from landuse.config.folders import is_windows_name, name_problems, recipes
from landuse.errors import UserError
from landuse.sweeps import workers

SRC = Path(__file__).parents[1] / "src"


def no_links(*_: object, **__: object) -> NoReturn:
    raise OSError(1314, "A required privilege is not held by the client")


# Names


@pytest.mark.parametrize(
    "name", ["CON", "nul.txt", "com1", "Lpt9.tar.gz", "a:b", "what?", "a|b", 'a"b', "end.", "end "]
)
def test_windows_refuses_these_names(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_windows_name(name)
    assert list(name_problems("outputs", run_name=name)) == []
    monkeypatch.setattr(folders, "IS_WINDOWS", True)
    (problem,) = name_problems("outputs", run_name=name)
    assert problem == f"run_name={name}: is no name that Windows takes for a folder; give another run_name=NAME."


@pytest.mark.parametrize("name", ["contour", "2026-11-26_16-52-48", "a.b", "ünïcode und Leerzeichen", "com10", "日本"])
def test_windows_takes_these_names(name: str) -> None:
    assert is_windows_name(name)


def test_a_path_of_windows_is_told_as_an_address(command: Any) -> None:
    done = command("train", "data=ucmerced", r"data.archive.url='C:\images\UC Merced.zip'")
    assert done.status == 2
    assert "is a path: write file:///C:/images/UC%20Merced.zip" in done.err


@pytest.mark.parametrize(
    ("given", "meant"),
    [(r"C:\images\new", r"C:\images\new"), ("C:/images", "C:/images"), (r"'C:\my images\ü'", r"C:\my images\ü")],
)
def test_paths_of_windows_pass_through_overrides(command: Any, given: str, meant: str) -> None:
    done = command("train", "data=folder", f"data.root={given}", "--cfg", "job")
    assert done.status == 0, done.err
    assert f"  root: {meant}\n" in done.out


def test_recipes_whose_link_git_wrote_as_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sweeps").write_text("../sweeps")
    monkeypatch.setattr(folders, "config_dir", lambda: tmp_path)
    with pytest.raises(UserError, match=r"should be a link to the folder \.\./sweeps: allow links"):
        recipes()


# Files


def test_the_newest_run_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "symlink_to", no_links)
    outputs = tmp_path / "öut puts"
    for name in ("first", "second"):
        folder = outputs / "train" / name
        folder.mkdir(parents=True)
        runs.point_latest(outputs, folder)
        assert (outputs / "latest").is_file()
        assert runs.find(None, outputs) == folder
        assert runs.find(str(outputs / "latest"), outputs) == folder
        assert runs.followed(outputs / "latest" / "export" / "int8") == folder / "export" / "int8"
    assert sorted(path.name for path in outputs.iterdir()) == ["latest", "train"]


def test_what_a_killed_process_left_is_no_way_to_other_files(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    outputs = tmp_path / "outputs"
    (outputs / "run").mkdir(parents=True)
    (outputs / f".latest.{os.getpid()}").symlink_to(precious)
    runs.point_latest(outputs, outputs / "run")
    assert precious.read_text() == "mine"
    assert runs.find(None, outputs) == outputs / "run"


def test_a_link_takes_the_place_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Path, "symlink_to", no_links)
        runs.point_latest(tmp_path, tmp_path)
    runs.point_latest(tmp_path, tmp_path)
    assert (tmp_path / "latest").is_symlink()


def test_a_file_that_points_nowhere_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "latest").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError):
        runs.read_config(runs.find(None, tmp_path))


def refusing(times: int, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Have renames fail so many times, as on Windows while a file is open elsewhere."""
    calls: list[Path] = []
    real = Path.replace

    def replace(self: Path, target: Path) -> Path:
        calls.append(self)
        if len(calls) <= times:
            raise PermissionError(13, "The process cannot access the file because it is being used by another process")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    return calls


def test_a_rename_waits_for_who_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "RENAMES_ARE_HELD_UP", True)
    calls = refusing(3, monkeypatch)
    files.write_json(tmp_path / "a.json", {"a": 1})
    assert len(calls) == 4
    assert files.read_mapping(tmp_path / "a.json", 100) == {"a": 1}


def test_a_rename_does_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "RENAMES_ARE_HELD_UP", True)
    monkeypatch.setattr(files, "RENAME_WITHIN_S", 0.1)
    refusing(10**9, monkeypatch)
    with pytest.raises(PermissionError):
        files.write_json(tmp_path / "a.json", {})
    assert not list(tmp_path.iterdir()), "and leaves nothing behind"


def test_where_renames_are_not_held_up_a_refusal_is_final(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "RENAMES_ARE_HELD_UP", False)
    calls = refusing(1, monkeypatch)
    with pytest.raises(PermissionError):
        files.write_json(tmp_path / "a.json", {})
    assert len(calls) == 1


def test_every_text_file_says_its_encoding_and_line_ends() -> None:
    """Else Windows would write, and read, in the code page of the country, and end lines in two characters."""
    import ast

    for path in SRC.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute | ast.Name):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
            keys = {keyword.arg for keyword in node.keywords}
            where = f"{path.relative_to(SRC)}:{node.lineno}"
            if name == "write_text":
                assert {"encoding", "newline"} <= keys, where
            elif name == "read_text" and isinstance(node.func, ast.Attribute):
                assert "encoding" in keys, where
            elif name in ("open", "fdopen") and node.args and isinstance(node.args[-1], ast.Constant):
                mode = str(node.args[-1].value)
                if mode in ("w", "a", "x", "r", "r+", "w+"):
                    assert "encoding" in keys or path.name == "scan.py", where  # raw FileIO there


# Streams and processes


def python(code: str, **environment: str) -> "subprocess.CompletedProcess[bytes]":
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "LC_", "LANG"))}
    return subprocess.run(
        [sys.executable, "-c", code], env=inherited | {"PYTHONPATH": str(SRC)} | environment, capture_output=True,
        check=False, timeout=60,
    )  # fmt: skip


def test_a_console_that_knows_few_letters() -> None:
    code = "from landuse.cli import _prepare_streams; _prepare_streams(); print('ü → 日本')"
    done = python(code, PYTHONIOENCODING="cp1252")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == b"\xfc \\u2192 \\u65e5\\u672c"
    assert python("print('→')", PYTHONIOENCODING="cp1252").returncode != 0, "Python's own way"


def test_a_composed_configuration_on_such_a_console(tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv = ['train', '--cfg', 'job', \"run_name='日本'\"]; from landuse.train import main; main()"
    )
    done = python(code, PYTHONIOENCODING="cp1252", PYTHONUTF8="0", LC_ALL="C.UTF-8")
    assert done.returncode == 0, done.stderr
    assert b"run_name: \\u65e5\\u672c" in done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="macOS and Windows always read names as UTF-8")
def test_names_that_the_locale_does_not_know(tmp_path: Path) -> None:
    for name in ("a", "é"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").touch()
    code = f"from landuse.data.sources import FolderSource, Path; FolderSource(Path({str(tmp_path)!r}), Path('x'))"
    done = python(code, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert b"than Python is told to read here (ascii): set PYTHONUTF8=1." in done.stderr
    assert python(code, LC_ALL="C").returncode == 0, "Python takes C for UTF-8 by itself"


@pytest.mark.parametrize("can_signal", [True, False])
def test_a_worker_interrupts_itself_when_its_stdin_ends(can_signal: bool) -> None:
    """So it does when its parent is gone, and where there are no signals when its parent asks it to."""
    code = (
        "import signal, sys, time\n"
        "from landuse.sweeps import workers\n"
        f"workers.CAN_SIGNAL = {can_signal}\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n"
        "workers.end_with_the_parent()\n"
        "print('on', flush=True)\n"
        "while True: time.sleep(0.01)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(SRC)}
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None and process.stdout is not None
    assert process.stdout.readline().strip() == b"on"
    assert process.poll() is None
    process.stdin.close()
    assert process.wait(20) == 7
    process.stdout.close()


def test_limits_and_calls_that_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    from landuse import allocator
    from landuse.data.workers import num_workers
    from landuse.serving.server import _raise_open_files

    monkeypatch.setitem(sys.modules, "resource", None)
    _raise_open_files(10**9)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert num_workers() == os.cpu_count()
    assert workers.share_of_cores(0, 1) == list(range(os.cpu_count() or 1))
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not allocator.keep_freed_memory() and not allocator.return_freed_memory()

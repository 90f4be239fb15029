"""Run folders."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from landuse import runs
from landuse.config.schema import CNNConfig, Config, DataConfig, HardwareConfig, TrainerConfig
from landuse.errors import UserError
from landuse.files import replacing, write_json


def test_create_and_read_back(tmp_path: Path) -> None:
    config = Config(experiment_name="e", run_name="r", model=CNNConfig(width=3))
    config.data.home = "data"
    runs.create(tmp_path / "run", config)
    assert runs.read_config(tmp_path / "run") == runs.to_tree(config)


def test_a_used_folder_is_refused(tmp_path: Path) -> None:
    runs.require_free(tmp_path, Config())
    (tmp_path / "metrics.jsonl").touch()
    with pytest.raises(UserError, match="already holds a run"):
        runs.require_free(tmp_path, Config())
    runs.require_free(tmp_path, Config(trainer=TrainerConfig(resume="auto")))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"lr": 0.5}, "trainer.lr=0.002 then and 0.5 now"),
        ({"scheduler": "step"}, "trainer.scheduler=cosine then and step now"),
        ({"epochs": 99, "device": "cpu", "log_every": 1}, None),
    ],
)
def test_a_run_goes_on_under_its_own_configuration(tmp_path: Path, change: dict[str, Any], named: str | None) -> None:
    then, now = (Config(experiment_name="e", data=DataConfig(home="data")) for _ in range(2))
    then.run_name = "r"
    runs.create(tmp_path, then)
    now.trainer = TrainerConfig(resume="auto", **change)
    now.hardware = HardwareConfig(num_threads=1)
    runs.require_free(tmp_path, now)  # no checkpoint yet, so it begins anew
    (tmp_path / "checkpoints" / "last.pt").touch()
    with pytest.raises(UserError, match=named) if named else nullcontext():
        runs.require_free(tmp_path, now)


def test_a_run_of_before_goes_on_where_the_ground_is_now_known(tmp_path: Path) -> None:
    """What its images show was no key then, and trains nothing."""
    config = Config(experiment_name="e", run_name="r", data=DataConfig(home="data"))
    runs.create(tmp_path, config)
    path = tmp_path / "config.yaml"
    lines = path.read_text().splitlines(keepends=True)
    older = [line for line in lines if line.split(":")[0] not in ("  gsd", "  tile_size")]
    assert len(older) == len(lines) - 3  # and `map.gsd`
    path.write_text("".join(older))
    (tmp_path / "checkpoints" / "last.pt").touch()
    config.data.gsd, config.data.tile_size, config.trainer.resume = 0.3, 256, "auto"
    runs.require_free(tmp_path, config)
    assert runs.differences(tmp_path, config) == ""


def test_latest_moves(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        runs.point_latest(tmp_path / "outputs", tmp_path / name)
        assert runs.find(None, tmp_path / "outputs") == tmp_path / name


def test_latest_that_cannot_be_made_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "outputs" / "latest").mkdir(parents=True)  # a real folder of that name stays
    runs.point_latest(tmp_path / "outputs", tmp_path)
    assert "give run=" in caplog.text


def test_find_by_model_folder(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.json").touch()
    assert runs.find(str(tmp_path / "model"), tmp_path) == tmp_path
    assert runs.find(str(tmp_path), tmp_path) == tmp_path
    (tmp_path / "model" / "model.safetensors").touch()
    assert runs.find(str(tmp_path / "model" / "model.safetensors"), tmp_path) == tmp_path


def test_find_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="train first"):
        runs.find(None, tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        runs.find(str(tmp_path / "x"), tmp_path)
    (tmp_path / "alone.safetensors").touch()
    with pytest.raises(UserError, match="no model.json beside it"):
        runs.find(str(tmp_path / "alone.safetensors"), tmp_path)


@pytest.mark.parametrize("content", [None, "[1, 2]", "a: [", "\x00", "a: ${oc.env:HOME}", "a: &x [1]\nb: *x"])
def test_unreadable_config(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(UserError, match="must name a folder that training wrote"):
        runs.read_config(tmp_path)


def test_replacing_is_all_or_nothing(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"a": 1})
    before = (tmp_path / "x.json").read_bytes()

    def fails() -> None:
        with replacing(tmp_path / "x.json") as temporary:
            temporary.write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fails()
    assert (tmp_path / "x.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


def test_finished_summary_that_is_damaged(tmp_path: Path) -> None:
    config = Config(trainer=TrainerConfig(resume="auto"))
    assert runs.finished_summary(tmp_path, config) is None
    for content in ("{", "[1]", "{}"):
        (tmp_path / "summary.json").write_text(content)
        with pytest.raises(UserError, match="damaged"):
            runs.finished_summary(tmp_path, config)

"""What torchrun says in the environment, and what does not go together with it."""

import pytest

from landuse.config import validate as rules
from landuse.config.processes import Place
from landuse.config.schema import Config
from landuse.errors import UserError

TORCHRUN = {"TORCHELASTIC_RUN_ID": "x", "RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}


@pytest.fixture
def _torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)


def test_a_process_that_torchrun_did_not_start_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert Place.find() == Place(0, 1, 0, 1)


@pytest.mark.usefixtures("_torchrun")
def test_the_place_that_torchrun_gives() -> None:
    assert Place.find() == Place(rank=5, size=8, local_rank=1, local_size=4)


@pytest.mark.usefixtures("_torchrun")
@pytest.mark.parametrize(
    ("distributed", "device", "batch_size", "num_gpus", "message"),
    [
        (True, "cpu", 64, 0, None),
        (True, "cuda", 64, 4, None),
        (True, "auto", 64, 0, None),
        (False, "cpu", 64, 0, "torchrun started 8 processes, each of which would train a run of its own"),
        (True, "cuda:1", 64, 4, "trainer.device=cuda:1 with 8 processes: give cuda"),
        (True, "cuda", 64, 2, "torchrun started 4 processes here, but there are 2 GPUs"),
        (True, "cpu", 31, 0, "trainer.batch_size=31 is shared by 8 processes: must be at least 32"),
    ],
)
def test_rules(
    monkeypatch: pytest.MonkeyPatch, distributed: bool, device: str, batch_size: int, num_gpus: int, message: str | None
) -> None:
    monkeypatch.setattr("landuse.config.devices.num_cuda_devices", lambda: num_gpus)
    config = Config()
    config.hardware.distributed = distributed
    config.trainer.device, config.trainer.batch_size = device, batch_size
    if message is None:
        rules.validate(config)
    else:
        with pytest.raises(UserError, match=message):
            rules.validate(config)

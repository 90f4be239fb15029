"""What only a GPU can show; skipped without one."""

from collections.abc import Iterator

import pytest
import torch

from landuse.config.schema import AugmentConfig, HardwareConfig

from .conftest import tiny_config

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")

STRONG = AugmentConfig(symmetries=True, crop_scale=[0.5, 1.0], brightness=0.2, saturation=0.2, erasing=0.5, mixup=0.2)


def gpu(precision: str = "bf16", resident: bool = True) -> HardwareConfig:
    return HardwareConfig(precision=precision, dataset_on_device=resident)  # type: ignore[arg-type]


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("resident", [True, False])
def test_learns(make_trainer, precision: str, resident: bool) -> None:
    config = tiny_config(
        device="cuda", epochs=8, clip_norm=1.0, accumulate=2, ema=0.9, hardware=gpu(precision, resident)
    )
    trainer = make_trainer(config)
    trainer.fit()
    assert trainer.state.best["val/accuracy"] > 0.6


@pytest.mark.parametrize("resident", [True, False])
def test_a_step_never_waits_for_the_device(make_trainer, resident: bool) -> None:
    from landuse.training.batches import epoch_plan
    from landuse.training.gradient import GradientNorm

    trainer = make_trainer(
        tiny_config(device="cuda", augment=STRONG, clip_norm=1.0, ema=0.9, hardware=gpu(resident=resident))
    )
    plan = epoch_plan(36, 8, 1, 0, 0, None)
    norms = GradientNorm(torch.device("cuda"), 0.0, 0)
    for index, (step, batches) in enumerate(trainer._batches.of_epoch(0, plan)):
        torch.cuda.set_sync_debug_mode("error" if index else "default")  # the first one allocates
        try:
            trainer._forward_backward(step, batches)
            trainer._update(0.01, norms)
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.fixture
def _as_before() -> Iterator[None]:
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("_as_before")
def test_deterministic_runs_are_identical(make_trainer) -> None:
    results = []
    for name in ("a", "b"):
        trainer = make_trainer(tiny_config(device="cuda", deterministic=True, augment=STRONG, hardware=gpu()), name)
        trainer.fit()
        results.append([tensor.cpu() for tensor in trainer.model.state_dict().values()])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))

"""Seeds, batches, loss, averages, decay, schedules, checkpoints, devices, inference."""

import math
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from landuse.config.schema import HardwareConfig, TrainerConfig
from landuse.data.pack import Pack
from landuse.errors import UserError
from landuse.models.cnn import CNN
from landuse.models.slim_resnet import SlimResNet
from landuse.training import checkpoint, device
from landuse.training.batches import Images, epoch_plan, in_order
from landuse.training.checkpoint import TrainState
from landuse.training.device import Runtime, build_runtime
from landuse.training.ema import NoAverage, build_average
from landuse.training.inference import Predictor, symmetry
from landuse.training.loss import Criterion, NonFiniteLossError, RunningLoss, diverged
from landuse.training.optim import parameter_groups
from landuse.training.schedule import Schedule
from landuse.training.seed import generator, stream_seed

from .conftest import EVERYTHING, tiny_config

CPU = torch.device("cpu")


def test_streams_are_reproducible_and_apart() -> None:
    assert stream_seed(0, "order", 1) == stream_seed(0, "order", 1)
    seeds = {stream_seed(seed, name, epoch) for seed in range(3) for name in ("order", "augment") for epoch in range(5)}
    assert len(seeds) == 30
    assert torch.equal(torch.rand(3, generator=generator(1, "a")), torch.rand(3, generator=generator(1, "a")))


@pytest.mark.parametrize(("num_images", "batch_size"), [(36, 8), (5, 2), (3, 2), (2, 64), (65, 64), (1, 8)])
def test_every_image_once_and_no_batch_of_one(num_images: int, batch_size: int) -> None:
    plan = epoch_plan(num_images, batch_size, 1, 0, 0, None)
    batches = [batch for step in plan for batch in step.batches]
    assert sorted(torch.cat(batches).tolist()) == list(range(num_images))
    sizes = [len(batch) for batch in batches]
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= min(2, num_images)
    assert max(sizes) <= max(batch_size, 3)


def test_order_changes_with_epoch_and_seed_only() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return torch.cat([b for step in epoch_plan(50, 8, 2, seed, epoch, None) for b in step.batches]).tolist()

    assert order(0, 1) == order(0, 1)
    assert order(0, 1) != order(0, 2)
    assert order(0, 1) != order(1, 1)


def test_in_order_covers_everything() -> None:
    assert torch.cat(list(in_order(10, 4))).tolist() == list(range(10))
    assert [len(batch) for batch in in_order(10, 4, limit=1)] == [4]


def test_resident_images_equal_mapped_ones(pack: Pack, cpu: Runtime) -> None:
    split, rows = pack.split("train"), torch.tensor([5, 0, 7])
    mapped = Images(split, cpu).gather(rows)
    resident = Images(split, replace(cpu, dataset_on_device=True)).gather(rows)
    for a, b in zip(mapped, resident, strict=True):
        assert torch.equal(a, b)
    assert np.array_equal(mapped[0].numpy(), split.images[rows.numpy()])
    assert mapped[1].tolist() == split.labels[rows.numpy()].tolist()


@pytest.mark.parametrize("where", ["mapped", "read ahead", "resident"])
def test_an_epoch_goes_on_with_the_same_batches(make_trainer, where: str) -> None:
    plan = epoch_plan(36, 4, 2, 0, 1, None)
    whole = [b for _, bs in make_trainer(tiny_config(**EVERYTHING))._batches.of_epoch(1, plan) for b in bs]
    hardware = HardwareConfig(precision="fp32", dataset_on_device=where == "resident")
    trainer = make_trainer(tiny_config(**EVERYTHING, hardware=hardware))
    trainer._train_images.are_read_ahead = where == "read ahead"  # as a GPU's are
    rest = [b for _, bs in trainer._batches.of_epoch(1, plan, done=2) for b in bs]
    assert len(whole) == 9 and len(rest) == 5
    for one, again in zip(whole[4:], rest, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one[:3], again[:3], strict=True)) and one.weight == again.weight


def test_an_epoch_that_is_left_leaves_no_thread(make_trainer) -> None:
    trainer = make_trainer(tiny_config())
    trainer._train_images.are_read_ahead = True
    steps = trainer._batches.of_epoch(0, epoch_plan(36, 8, 1, 0, 0, None))
    _, batches = next(steps)
    next(batches)
    assert any(thread.name.startswith("batches") for thread in threading.enumerate())
    steps.close()
    assert not any(thread.name.startswith("batches") for thread in threading.enumerate())


def test_criterion_sums_and_balances() -> None:
    logits, labels = torch.randn(6, 3), torch.tensor([0, 0, 0, 0, 1, 2])
    plain = Criterion(TrainerConfig(), labels.numpy(), 3, CPU)
    assert torch.isclose(plain(logits, labels, labels, 1.0), nn.functional.cross_entropy(logits, labels) * 6)
    balanced = Criterion(TrainerConfig(class_weights="balanced"), labels.numpy(), 3, CPU)
    per_image = nn.functional.cross_entropy(logits, labels, reduction="none")
    weights = torch.tensor([0.5, 2.0, 2.0])[labels]  # N / (C n_c)
    assert weights.mean() == 1
    assert torch.isclose(balanced(logits, labels, labels, 1.0), (per_image * weights).sum())


def test_criterion_mixes_labels() -> None:
    logits, a, b = torch.randn(4, 3), torch.tensor([0, 1, 2, 0]), torch.tensor([1, 1, 0, 2])
    criterion = Criterion(TrainerConfig(label_smoothing=0.1), a.numpy(), 3, CPU)
    soft = 0.3 * nn.functional.one_hot(a, 3) + 0.7 * nn.functional.one_hot(b, 3)
    soft = soft * 0.9 + 0.1 / 3
    expected = -(soft * logits.log_softmax(1)).sum()
    assert torch.isclose(criterion(logits, a, b, 0.3), expected, rtol=1e-5)


def test_running_loss_is_a_mean_over_images(cpu: Runtime) -> None:
    running = RunningLoss(cpu)
    running.add(torch.tensor(2.0), 3, "here")
    running.add(torch.tensor(1.0), 1, "here")
    total, num_images = running.look("here")
    assert (total, num_images) == (7.0, 4)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_non_finite_loss_is_noticed_on_cpu_at_once_and_elsewhere_at_a_look(value: float, cpu: Runtime) -> None:
    with pytest.raises(NonFiniteLossError, match="step 3"):
        RunningLoss(cpu).add(torch.tensor(value), 8, "step 3")
    running = RunningLoss(cpu)
    running._looks_always = False  # as on an accelerator
    running.add(torch.tensor(value), 8, "step 3")
    with pytest.raises(NonFiniteLossError, match="step 9"):
        running.look("step 9")


def test_divergence_names_no_cure_that_is_in_use() -> None:
    assert "hardware.precision" not in str(diverged("The loss is", "here", "fp32"))
    assert str(diverged("The loss is", "here", "bf16")).endswith("or use hardware.precision=fp32.")


def test_average_follows_and_forgets_the_start() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average = build_average(model, 0.5)
    start = model[0].weight.clone()
    with torch.no_grad():
        model[0].weight += 1
        model[1].num_batches_tracked += 7
    average.update(0)  # decay (1 + 0) / (10 + 0)
    assert torch.allclose(average.model[0].weight, start + 0.9)
    assert average.model[1].num_batches_tracked == 7
    average.update(1000)  # decay 0.5
    assert torch.allclose(average.model[0].weight, start + 0.95)


def test_no_average_is_the_model_itself() -> None:
    model = nn.Linear(1, 1)
    average = build_average(model, None)
    average.update(0)
    assert isinstance(average, NoAverage)
    assert average.model is model


def test_biases_and_norms_are_not_decayed() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    decayed, spared = parameter_groups(model, 0.1)
    assert decayed["weight_decay"] == 0.1
    assert spared["weight_decay"] == 0.0
    assert {p.ndim for p in decayed["params"]} == {4, 2}
    assert {p.ndim for p in spared["params"]} == {1}
    assert sum(len(group["params"]) for group in (decayed, spared)) == len(list(model.parameters()))


@pytest.mark.parametrize("name", ["cnn", "slim_resnet", "convnext_tiny", "swin_t", "vit_b_16"])
def test_what_features_are_multiplied_with_is_decayed_and_nothing_else(name: str) -> None:
    """Not the layer scales, position biases and embeddings, and class tokens, which have several dimensions too."""
    with torch.device("meta"):
        model = {"cnn": lambda: CNN(3, 8, 2, 3, 0.0), "slim_resnet": lambda: SlimResNet(3, 8, [1, 1])}.get(
            name, lambda: torchvision.models.get_model(name)
        )()
    decayed, _ = parameter_groups(model, 0.1)
    matrices = [module.weight for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    matrices += [module.in_proj_weight for module in model.modules() if isinstance(module, nn.MultiheadAttention)]
    assert {id(parameter) for parameter in decayed["params"]} == {id(matrix) for matrix in matrices}


def schedule(**settings: object) -> Schedule:
    return Schedule(TrainerConfig(**{"lr": 1.0, "epochs": 10, "warmup_epochs": 2.0, **settings}))


def test_cosine() -> None:
    cosine = schedule(scheduler="cosine", final_lr=0.1)
    assert cosine.lr(1.0) == pytest.approx(0.5)
    assert cosine.lr(2.0) == pytest.approx(1.0)
    assert cosine.lr(6.0) == pytest.approx(0.55)
    assert cosine.lr(10.0) == pytest.approx(0.1)
    assert 0 < cosine.lr(0.0) < 0.01


def test_one_cycle() -> None:
    one_cycle = schedule(scheduler="one_cycle")
    assert one_cycle.lr(0.0) == pytest.approx(1 / 25)
    assert one_cycle.lr(2.0) == pytest.approx(1.0)
    assert one_cycle.lr(10.0) == pytest.approx(0.0)


def test_step_and_constant() -> None:
    step = schedule(scheduler="step", decay_epochs=3, warmup_epochs=0)
    assert [round(step.lr(epoch), 6) for epoch in (0, 2.9, 3, 6)] == [1.0, 1.0, 0.1, 0.01]
    constant = schedule(scheduler="constant")
    assert {constant.lr(epoch / 7) for epoch in range(70)} == {1.0}


@pytest.mark.parametrize("name", ["cosine", "one_cycle", "step", "plateau", "constant"])
@pytest.mark.parametrize("epochs", [1, 2])
def test_a_training_that_is_all_warm_up_still_trains(name: str, epochs: int) -> None:
    short = schedule(scheduler=name, epochs=epochs, warmup_epochs=float(epochs))
    assert max(short.lr(step / 10 * epochs) for step in range(1, 10)) > 0.5


def test_plateau_lowers_after_stale_epochs() -> None:
    plateau = schedule(scheduler="plateau", decay_epochs=2, warmup_epochs=0)
    for improved, expected in ((True, 1.0), (False, 1.0), (False, 0.1), (False, 0.1), (True, 0.1)):
        plateau.end_epoch(improved)
        assert plateau.lr(5) == pytest.approx(expected)


BEST = {"val/loss": 0.5, "val/accuracy": 0.8}


def test_checkpoint_round_trip_and_damage(tmp_path: Path) -> None:
    path, state = tmp_path / "last.pt", TrainState(epoch=3, best_epoch=1, best=BEST)
    checkpoint.save(path, state, {"model": {"w": torch.ones(2)}}, {"seed": 1})
    loaded, parts = checkpoint.load(path, {"seed": 1})
    assert loaded == state
    assert torch.equal(parts["model"]["w"], torch.ones(2))
    with pytest.raises(UserError, match="made with seed=1, this run has seed=2"):
        checkpoint.load(path, {"seed": 2})
    checkpoint.copy(path, tmp_path / "best.pt")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match="damaged"):
        checkpoint.load(path, {})
    assert checkpoint.load(tmp_path / "best.pt", {})[0] == state  # a copy of its own
    with pytest.raises(UserError, match="no checkpoint"):
        checkpoint.load(tmp_path / "none.pt", {})


def test_checkpoint_never_unpickles_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "executed",))  # type: ignore[return-value]

    torch.save({"state": {}, "identity": {}, "evil": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(UserError, match="damaged or is no checkpoint"):
        checkpoint.load(tmp_path / "evil.pt", {})
    assert not (tmp_path / "executed").exists()


def test_a_flipped_bit_in_a_checkpoint_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    checkpoint.save(path, TrainState(), {"model": {"w": torch.ones(4096)}}, {})
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        checkpoint.load(path, {})


def within(epoch: int, step: int) -> TrainState:
    return TrainState(epoch, step, num_images=8 * step)


def test_checkpoint_of_a_run_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The furthest that is whole; of equals the last."""
    folder = tmp_path / "checkpoints"
    assert checkpoint.find(tmp_path) == folder / "last.pt"
    assert checkpoint.find(tmp_path / "x.pt") == tmp_path / "x.pt"
    for name, state in (("previous", within(1, 4)), ("best", within(2, 0)), ("last", within(1, 7))):
        checkpoint.save(folder / f"{name}.pt", state, {}, {})
        assert checkpoint.find(tmp_path).name == ("previous.pt" if name == "previous" else "best.pt")
    checkpoint.save(folder / "last.pt", within(2, 0), {}, {})
    assert checkpoint.find(tmp_path).name == "last.pt" and not caplog.text
    assert checkpoint.load(folder / "previous.pt", {})[0] == within(1, 7)
    (folder / "last.pt").write_bytes(b"damaged")
    (folder / "best.pt").write_bytes((folder / "best.pt").read_bytes()[:-100])
    assert checkpoint.find(tmp_path).name == "previous.pt"
    assert "last.pt and " in caplog.text and "previous.pt, epoch 2, step 7" in caplog.text


def test_precision_follows_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    dense, depthwise = nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3, groups=4)
    monkeypatch.setattr(device, "_cpu_has_bf16", lambda: True)
    assert build_runtime("cpu", HardwareConfig(), dense).precision == "bf16"
    assert build_runtime("cpu", HardwareConfig(), depthwise).precision == "fp32"
    monkeypatch.setattr(device, "_cpu_has_bf16", lambda: False)
    assert build_runtime("cpu", HardwareConfig(), dense).precision == "fp32"


def test_bf16_on_the_cpu_needs_maps_as_wide_as_strides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_cpu_has_bf16", lambda: True)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 2, 1), nn.Conv2d(4, 4, 1, 2))
    assert build_runtime("cpu", HardwareConfig(), model, smallest_px=3).precision == "bf16"
    assert build_runtime("cpu", HardwareConfig(), model, smallest_px=2).precision == "fp32"  # the second sees a pixel
    assert build_runtime("cpu", HardwareConfig(), model).precision == "bf16"  # not to be trained
    model.requires_grad_(False)
    assert build_runtime("cpu", HardwareConfig(), model, smallest_px=2).precision == "bf16"  # nor is this
    model.requires_grad_(True)
    with pytest.raises(UserError, match=r"hardware.precision=bf16: at 2 px"):
        build_runtime("cpu", HardwareConfig(precision="bf16"), model, smallest_px=2)


def test_explicit_hardware_is_obeyed() -> None:
    threads = torch.get_num_threads()
    hardware = HardwareConfig(precision="bf16", channels_last=False, num_threads=2, allocator="system")
    runtime = build_runtime("cpu", hardware, nn.Identity(), deterministic=True)
    try:
        assert (runtime.precision, runtime.channels_last, runtime.num_threads, runtime.allocator) == (
            "bf16",
            False,
            2,
            "system",
        )
        assert torch.get_num_threads() == 2
        assert torch.are_deterministic_algorithms_enabled()
        assert runtime.describe()["device"] == "cpu"
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_num_threads(threads)


def test_a_gpu_that_torch_cannot_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for name in ("cuda", "mps"):
        with pytest.raises(UserError, match=f"trainer.device={name}"):
            build_runtime(name, HardwareConfig(), nn.Identity())
    assert build_runtime("auto", HardwareConfig(), nn.Identity()).device == CPU


def test_probabilities_do_not_depend_on_the_batch_size(pack: Pack, cpu: Runtime) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    images = Images(pack.split("val"), cpu)
    whole = Predictor(cpu, pack.mean, pack.std, 100).probabilities(model, images)
    parts = Predictor(cpu, pack.mean, pack.std, 5).probabilities(model, images)
    assert whole.shape == (12, 3)
    assert np.allclose(whole, parts, atol=1e-6)
    assert np.allclose(whole.sum(1), 1, atol=1e-6)


def test_symmetry_averaging_makes_the_model_invariant(pack: Pack, cpu: Runtime) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 5), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 12 * 12, 3))
    split = pack.split("val")
    turned = replace(split, images=np.ascontiguousarray(np.rot90(split.images, axes=(1, 2))))
    predictor = Predictor(cpu, pack.mean, pack.std, 64, symmetries=True)
    a, b = (predictor.probabilities(model, Images(part, cpu)) for part in (split, turned))
    assert np.allclose(a, b, atol=1e-6)
    plain = Predictor(cpu, pack.mean, pack.std, 64)
    c, d = (plain.probabilities(model, Images(part, cpu)) for part in (split, turned))
    assert not np.allclose(c, d, atol=1e-3)


def test_the_eight_symmetries_differ() -> None:
    image = torch.arange(27.0).reshape(1, 3, 3, 3)
    assert len({tuple(symmetry(image, number).flatten().tolist()) for number in range(8)}) == 8

"""Every mistake in a configuration ends in one clear message, status 2, and no work done."""

from pathlib import Path

import pytest

MISTAKES = {
    "unknown key": (["trainer.lrr=1"], ["'trainer.lrr'", "trainer.lr"]),
    "unknown key at the root": (["lr=0.1"], ["'lr'", "trainer.lr"]),
    "appended typo": (["+lrr=1"], ["'lrr'", "trainer.lr"]),
    "appended typo in a group": (["+trainer.epoch=1"], ["'trainer.epoch'", "trainer.epochs"]),
    "forced typo": (["++data.image_siz=3"], ["'data.image_siz'", "data.image_size"]),
    "key of another model": (
        ["model=resnet18", "model.width=3"],
        ["'model.width'", "kind cnn and slim_resnet", "model.stem"],
    ),
    "appended key of another model": (["model=resnet18", "+model.width=3"], ["'model.width'", "kind cnn"]),
    "key of a deleted group": (
        ["~model", "model.width=4"],
        ["'model.width'", "kind cnn and slim_resnet", "model=NAME"],
    ),
    "null group": (["model=null"], ["model=null", "Choices: cnn"]),
    "number for a group": (["trainer=3"], ["trainer=3", "Choices: default"]),
    "two choices": (["data=[synthetic,eurosatt]"], ["data=eurosatt", "Choices: eurosat"]),
    "nothing before the sign": (["=3"], ["'=3'", "key=value"]),
    "null": (["trainer.epochs=null"], ["trainer.epochs=null: must be an integer."]),
    "number for a list": (["trainer.betas=0.9"], ["trainer.betas=0.9: must be a list, written [a,b]."]),
    "text for a list": (["tracking.tags=a"], ["tracking.tags=a: must be a list, written [a,b]."]),
    "number for an optional list": (["augment.crop_scale=0.5"], ["augment.crop_scale=0.5", "[a,b], or null"]),
    "neither true nor false": (["trainer.profile=nan"], ["trainer.profile=nan: must be true or false."]),
    "number for a mapping": (["model=custom", "model.params=3"], ["model.params=3", "a mapping"]),
    "null for keys": (["data.split=null"], ["data.split=null", "a group of keys"]),
    "interpolation of nothing": (["run_name=${foo}"], ["${foo} refers to a key that does not exist"]),
    "several values": (["trainer.lr=1,2"], ["trainer.lr=1,2", "--multirun", "[1,2]"]),
    "home": (["data.root=~/x"], ["data.root=~/x", "$HOME instead of ~"]),
    "special letters": (["data.name=ü"], ["data.name=ü", """ "data.name='ü'" """.strip()]),
    "no outputs": (["outputs="], ["outputs is empty"]),
    "no run name": (["run_name="], ["run_name=:", "neither empty"]),
    "run name that climbs": (["run_name=.."], ["run_name=..:", "nor a path"]),
    "experiment that climbs": (["experiment_name=../../x"], ["experiment_name=../../x:", "nor a path"]),
    "long run name": (["run_name=" + 300 * "a"], ["run_name=aaa", "300 characters"]),
    "long data name": (["data.name=" + 300 * "a", "experiment_name=x"], ["data.name=aaa", "at most 100"]),
    "renamed cnn": (["model.name=resnet18"], ["model.name=resnet18", "write model=resnet18"]),
    "cnn by a name of its own": (["model.name=mine"], ["model.name=mine", "experiment_name=NAME"]),
    "many folds": (["data.split.folds=1000000"], ["data.split.folds=1000000", "at most 1000"]),
    "huge batch": (["trainer.batch_size=99999999"], ["trainer.batch_size=99999999", "at most 1,000,000"]),
    "huge integer": (["trainer.epochs=99999999999999999999"], ["trainer.epochs=99999999999999999999", "2^63"]),
    "huge evaluation batch": (["evaluation.batch_size=9999999"], ["evaluation.batch_size=9999999", "1,000,000"]),
    "many threads": (["hardware.num_threads=100000"], ["hardware.num_threads=100000", "1024"]),
    "negative start size": (["augment.start_size=-5"], ["augment.start_size=-5", "between 8 and the full size"]),
    "resume from any folder": (["trainer.resume=/"], ["trainer.resume=/", "checkpoints/last.pt"]),
    "unknown group": (["modl=cnn"], ["'modl'", "model"]),
    "wrong choice": (["model=cn"], ["model=cn", "Nearest: cnn"]),
    "wrong torchvision name": (["model=resnet1818"], ["model=resnet1818", "resnet18"]),
    "wrong model.name": (["model=torchvision", "model.name=resnet19"], ["resnet19", "resnet18"]),
    "wrong debug preset": (["+debug=overfitt"], ["debug=overfitt", "overfit"]),
    "wrong experiment": (["experiment=ucmerced_cpuu"], ["experiment=ucmerced_cpuu", "ucmerced_cpu"]),
    "wrong type": (["trainer.lr=abc"], ["trainer.lr=abc", "a number"]),
    "wrong type in a list": (["trainer.betas=[0.9,x]"], ["trainer.betas[1]=x", "a number"]),
    "wrong value of a closed set": (["trainer.optimizer=adam"], ["trainer.optimizer=adam", "adamw", "sgd"]),
    "unreadable override": (["trainer.lr=[1"], ["trainer.lr=[1", "key=value"]),
    "deleted key": (["~trainer.lr"], ["trainer.lr", "deletion"]),
    "unknown device": (["trainer.device=gpu"], ["trainer.device=gpu", "cuda"]),
    "mps absent": (["trainer.device=mps"], ["trainer.device=mps", "cpu"]),
    "image too small": (["data.image_size=32"], ["model.depth=6", "model.depth=5"]),
    "image size out of range": (["data.image_size=4"], ["data.image_size=4"]),
    "even kernel": (["model.kernel_size=4"], ["model.kernel_size=4", "odd"]),
    "width": (["model.width=0"], ["model.width=0"]),
    "dropout": (["model.dropout=1.5"], ["model.dropout=1.5"]),
    "stem of another family": (["model=vit_b_16", "model.stem=small"], ["model.stem=small", "ResNet"]),
    "vit size": (["model=vit_b_16", "data.image_size=100"], ["vit_b_16", "96 or 112"]),
    "vit training size": (["model=vit_b_16", "augment.size=48"], ["augment.size=48", "one image size"]),
    "no custom target": (["model=custom"], ["model.target"]),
    "DEFAULT weights of the cnn": (["model.weights=DEFAULT"], ["model.weights=DEFAULT", "torchvision"]),
    "missing weights": (["model.weights=/nowhere/w.pt"], ["/nowhere/w.pt"]),
    "frozen without weights": (["model=resnet18", "model.freeze_backbone=true"], ["freeze_backbone", "weights"]),
    "folder without root": (["data=folder"], ["data.root"]),
    "missing root": (["data=folder", "data.root=/nowhere"], ["data.root=/nowhere"]),
    "scheme": (["data=eurosat", "data.archive.url=ftp://x/y.zip"], ["ftp", "https"]),
    "scheme of a mirror": (
        ["data=eurosat", "data.archive.mirrors=[ftp://x/y.zip]"],
        ["mirrors[0]=ftp://x/y.zip", "gs://"],
    ),
    "path as mirror": (["data=eurosat", "data.archive.mirrors=[/x/y.zip]"], ["mirrors[0]=/x/y.zip", "file:///x/y.zip"]),
    "address without slashes": (["data=eurosat", "data.archive.url=file:x"], ["url=file:x", "file:///path"]),
    "address without a path": (["data=eurosat", "data.archive.url=https://x"], ["https://x", "https://host/path"]),
    "bucket alone": (["data=eurosat", "data.archive.url=gs://bucket"], ["gs://bucket", "gs://bucket/object"]),
    "no bucket": (["data=eurosat", "data.archive.url=gs://My_Bucket/x"], ["gs://My_Bucket/x", "gs://bucket/object"]),
    "kaggle page": (["data=landuse_scenes", "data.archive.url=kaggle://x"], ["kaggle://x", "kaggle://owner/dataset"]),
    "no checksum": (["data=landuse_scenes", "data.archive.url=file:///x.zip"], ["data.archive.sha256", "sha256sum"]),
    "no checksum for a mirror": (["data=landuse_scenes", "data.archive.mirrors=[file:///x.zip]"], ["archive.sha256"]),
    "root of an archive": (["data=landuse_scenes", "data.root=x"], ["data.root=x", "add data.source=folder"]),
    "patience": (["data=eurosat", "data.archive.timeout=0"], ["data.archive.timeout=0", "positive"]),
    "retries": (["data=eurosat", "data.archive.retries=-1"], ["data.archive.retries=-1"]),
    "short checksum": (["data=eurosat", "data.archive.sha256=abc"], ["abc", "64 hex"]),
    "missing split files": (["data.split.files=/nowhere"], ["/nowhere", "no folder"]),
    "mixup not a number": (["augment.mixup=nan"], ["augment.mixup=nan", "finite"]),
    "name that climbs": (["data.name=../x", "experiment_name=x"], ["data.name=../x"]),
    "path as address": (["data=eurosat", "data.archive.url=/x/y.zip"], ["file:///x/y.zip"]),
    "fractions": (["data.split.fractions=[0.5,0.5]"], ["data.split.fractions", "sum to 1"]),
    "fractions of one": (["data.split.fractions=[0.5,0.2,0.2]"], ["data.split.fractions", "sum to 1"]),
    "few synthetic images": (["data.synthetic.images_per_class=2"], ["images_per_class=2"]),
    "max_images": (["data.max_images=0"], ["data.max_images=0"]),
    "gsd": (["data.gsd=0"], ["data.gsd=0.0", "above 0", "metres a pixel, or be null"]),
    "gsd not a number": (["data.gsd=nan"], ["data.gsd=nan", "finite"]),
    "tile size": (["data.tile_size=0"], ["data.tile_size=0", "between 1 and 1,000,000 pixels, or be null"]),
    "crop scale": (["augment.shift=0", "augment.crop_scale=[0.9,0.2]"], ["augment.crop_scale"]),
    "crop and shift": (["augment.crop_scale=[0.5,1.0]"], ["augment.shift", "augment.crop_scale"]),
    "start size": (["augment.start_size=80"], ["augment.start_size=80", "the full size, 64 pixels"]),
    "growth": (["augment.grow_epochs=0"], ["augment.grow_epochs=0"]),
    "vit start size": (["model=vit_b_16", "augment.start_size=32"], ["augment.start_size=32", "one image size"]),
    "folds": (["data.split.folds=2"], ["data.split.folds=2", "at least 3"]),
    "fold": (["data.split.folds=5", "data.split.fold=5"], ["data.split.fold=5", "from 0 to 4"]),
    "fold without folds": (["data.split.fold=1"], ["data.split.fold=1", "data.split.folds"]),
    "groups": (["data.split.groups=nowhere.csv"], ["data.split.groups=nowhere.csv", "no file"]),
    "value range": (["data.quality.value_range=[5,1]"], ["data.quality.value_range=[5.0, 1.0]", "low < high"]),
    "on_leak": (["data.quality.on_leak=mov"], ["data.quality.on_leak=mov", "Nearest: move"]),
    "training size": (["augment.size=2"], ["augment.size=2"]),
    "brightness": (["augment.brightness=3"], ["augment.brightness=3"]),
    "mixup": (["augment.mixup=-1"], ["augment.mixup=-1"]),
    "mix probability": (["augment.mix_probability=2"], ["augment.mix_probability=2"]),
    "epochs": (["trainer.epochs=0"], ["trainer.epochs=0"]),
    "batch size": (["trainer.batch_size=1"], ["trainer.batch_size=1"]),
    "limit": (["trainer.limit_train_batches=0"], ["trainer.limit_train_batches=0"]),
    "lr": (["trainer.lr=-1"], ["trainer.lr=-1"]),
    "lr not a number": (["trainer.lr=nan"], ["trainer.lr=nan"]),
    "weight decay": (["trainer.weight_decay=-1"], ["trainer.weight_decay=-1"]),
    "momentum": (["trainer.momentum=1"], ["trainer.momentum=1"]),
    "betas": (["trainer.betas=[0.9]"], ["trainer.betas"]),
    "label smoothing": (["trainer.label_smoothing=1"], ["trainer.label_smoothing=1"]),
    "ema": (["trainer.ema=1"], ["trainer.ema=1"]),
    "clip": (["trainer.clip_norm=0"], ["trainer.clip_norm=0"]),
    "decay factor": (["trainer.decay_factor=1"], ["trainer.decay_factor=1"]),
    "final lr": (["trainer.final_lr=2"], ["trainer.final_lr=2"]),
    "warm-up": (["trainer.warmup_epochs=50", "trainer.epochs=2"], ["trainer.warmup_epochs=50", "trainer.epochs=2"]),
    "resume path": (["trainer.resume=/nowhere"], ["trainer.resume=/nowhere"]),
    "long profile": (["trainer.profile=true"], ["trainer.profile=true", "+debug=profiler"]),
    "fp16 on the CPU": (["trainer.device=cpu", "hardware.precision=fp16"], ["fp16", "bf16"]),
    "synthetic too small": (["data.image_size=8", "model.depth=3"], ["data.image_size=8", "16"]),
    "synthetic seed": (["data.synthetic.seed=-1"], ["data.synthetic.seed=-1"]),
    "evaluation batch": (["evaluation.batch_size=0"], ["evaluation.batch_size=0"]),
    "fractions not numbers": (["data.split.fractions=[nan,0.5,0.5]"], ["data.split.fractions"]),
    "decay not a number": (["trainer.weight_decay=nan"], ["trainer.weight_decay=nan"]),
    "malformed address": (["data=eurosat", "data.archive.url=https://[bad"], ["https://[bad"]),
    "threads": (["hardware.num_threads=0"], ["hardware.num_threads=0"]),
}


@pytest.mark.parametrize(
    "url", ["ftp://me:s3cret@x/y?sig=s3cret", "https://me:pa/s3cret@x/y", "https://me:s3cret@x/y z?sig=s3cret"]
)
def test_addresses_are_shown_without_secrets(command, url: str) -> None:
    done = command("download", "data=eurosat", f"data.archive.url='{url}'")
    assert done.status == 2
    assert "data.archive.url=" in done.err
    assert "s3cret" not in done.err


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_is_one_message(command, tmp_path: Path, name: str) -> None:
    overrides, expected = MISTAKES[name]
    done = command("train", *overrides)
    assert done.status == 2
    assert done.err.startswith("error: ")
    assert len(done.err.strip().splitlines()) == 1
    for part in expected:
        assert part in done.err
    assert list(tmp_path.iterdir()) == []  # neither a run folder nor data


def test_cuda_absent(command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("landuse.config.devices.num_cuda_devices", lambda: 0)
    done = command("train", "trainer.device=cuda")
    assert done.status == 2
    assert "trainer.device=cuda" in done.err
    assert "trainer.device=cpu" in done.err


def test_cuda_index_too_high(command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("landuse.config.devices.num_cuda_devices", lambda: 2)
    done = command("train", "trainer.device=cuda:2")
    assert done.status == 2
    assert "cuda:0 to cuda:1" in done.err


def test_traceback_on_request(command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    done = command("train", "+lrr=1")
    assert done.status == 2
    assert "Traceback" in done.err


def test_mistake_in_a_multirun(command) -> None:
    done = command("train", "--multirun", "seed=1,2", "trainer.epochs=0")
    assert done.status == 2
    assert "trainer.epochs=0" in done.err


def test_run_folder_that_cannot_be_made(command, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = command("train", f"hydra.run.dir={tmp_path}/file/x")
    assert done.status == 2
    assert "run folder cannot be made" in done.err
    assert "hydra.run.dir=PATH" in done.err


def test_faulty_recipe_of_the_users_own(command, tmp_path: Path) -> None:
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "bad.yaml").write_text("# @package _global_\ntrainer: [unclosed\n")
    (tmp_path / "mine" / "experiment" / "typo.yaml").write_text("# @package _global_\ntrainer:\n  lrr: 1\n")
    (tmp_path / "mine" / "experiment" / "loop.yaml").write_text("# @package _global_\nexperiment_name: ${nowhere.x}\n")
    (tmp_path / "mine" / "experiment" / "headless.yaml").write_text("trainer:\n  lr: 1\n")
    (tmp_path / "mine" / "experiment" / "kind.yaml").write_text("# @package _global_\ntrainer:\n  betas: 0.3\n")
    for name, expected in (
        ("bad", "bad.yaml"),
        ("typo", "experiment/typo.yaml: Unknown configuration key 'trainer.lrr'. Nearest: trainer.lr"),
        ("loop", "nowhere"),
        ("headless", "experiment/headless.yaml: its first line must be '# @package _global_'"),
        ("kind", "experiment/kind.yaml: trainer.betas must be a list"),
    ):
        done = command("train", "--config-dir", str(tmp_path / "mine"), f"experiment={name}")
        assert done.status == 2, done.err
        assert expected in done.err
        assert "Traceback" not in done.err

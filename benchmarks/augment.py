"""Images per second of each part of the augmentation on the CPU: ``python -m benchmarks.augment``.

Every part is timed once per round and the median over the rounds is reported, so that a machine whose speed drifts
treats all parts alike. Run it with ``MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=4000000000`` in the environment to see
what training sees with ``hardware.allocator=keep``. Measured so, torch 2.15, 2 cores, batch 32,
median of 21, images/s; all but the last two include the normalisation:

  part                     64 px    96 px   256 px
  normalise              405,000  269,000   19,000
  symmetries              67,100   45,500    9,000
  crop                    40,400   30,500    6,500
  crop + symmetries       32,700   23,500    5,600
  shift                   80,800   59,800    8,700
  brightness             308,000  216,000   19,000
  brightness + contrast  190,000  130,000   10,900
  saturation             107,000   67,300    9,500
  all four colours        95,200   59,800    7,300
  erasing                131,000  106,000   15,800
  everything              20,700   14,600    3,000
  resize to half          50,400   40,400    9,700
  mixup alone            213,000  121,000   13,300
  cutmix alone           399,000  218,000   16,000
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from landuse.config.schema import AugmentConfig
from landuse.data.augment import Augmentation, Draws, Mixing, normalise

MEAN, STD = (0.48, 0.49, 0.45), (0.2, 0.2, 0.2)
JITTER: dict[str, Any] = {"brightness": 0.2, "contrast": 0.2, "saturation": 0.2, "hue": 0.05}
PARTS: dict[str, dict[str, Any]] = {
    "symmetries": {"symmetries": True},
    "crop": {"crop_scale": [0.65, 1.0]},
    "crop + symmetries": {"crop_scale": [0.65, 1.0], "symmetries": True},
    "shift": {"shift": 0.1},
    "brightness": {"brightness": 0.2},
    "brightness + contrast": {"brightness": 0.2, "contrast": 0.2},
    "saturation": {"saturation": 0.2},
    "all four colours": JITTER,
    "erasing": {"erasing": 0.5},
    "everything": {"crop_scale": [0.65, 1.0], "symmetries": True, "shift": 0.1, "erasing": 0.5, **JITTER},
}


def build_parts(images: Tensor) -> dict[str, Callable[[], object]]:
    """The timed calls; all but the two mixings start from uint8 images and end with normalised ones."""
    mean, std = torch.tensor(MEAN), torch.tensor(STD)
    inputs = normalise(images, mean, std)
    generator = torch.Generator().manual_seed(0)

    def augmentation(config: AugmentConfig) -> Callable[[], object]:
        augment = Augmentation(config, MEAN, STD, images.device)
        return lambda: augment(images, Draws.draw(len(images), generator))

    def mixing(config: AugmentConfig) -> Callable[[], object]:
        mixing = Mixing(config)

        def mixed() -> object:
            mix = mixing.draw(len(inputs), generator, 0.0)
            return mix and mix(inputs, inputs, mix.partners)

        return mixed

    parts: dict[str, Callable[[], object]] = {"normalise": lambda: normalise(images, mean, std)}
    parts |= {name: augmentation(AugmentConfig(**config)) for name, config in PARTS.items()}
    parts["resize to half"] = augmentation(AugmentConfig(size=images.shape[1] // 2))
    parts["mixup alone"] = mixing(AugmentConfig(mixup=1.0))
    parts["cutmix alone"] = mixing(AugmentConfig(cutmix=1.0))
    return parts


def median_rates(side: int, batch: int, rounds: int) -> dict[str, float]:
    """Images per second of each part, the median over the rounds."""
    images = torch.randint(0, 256, (batch, side, side, 3), dtype=torch.uint8)
    parts = build_parts(images)
    seconds: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(rounds + 1):
        for name, part in parts.items():
            start = time.perf_counter()
            part()
            seconds[name].append(time.perf_counter() - start)
    return {name: batch / statistics.median(times[1:]) for name, times in seconds.items()}  # the first round warms up


def main() -> None:
    parser = argparse.ArgumentParser(description="Images per second of each part of the augmentation.")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 96, 256], help="pixels")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()

    columns = [median_rates(side, args.batch, args.rounds) for side in args.sizes]
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, batch {args.batch}, median of {args.rounds}")
    print(f"{'images/s':24}" + "".join(f"{side:>9} px" for side in args.sizes))
    for name in columns[0]:
        print(f"{name:24}" + "".join(f"{column[name]:>12,.0f}" for column in columns))


if __name__ == "__main__":
    main()

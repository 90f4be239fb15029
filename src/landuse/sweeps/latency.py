"""How long a trained model takes for one image, as an objective beside its accuracy."""

import statistics
import time
from pathlib import Path

from landuse.config.compose import from_tree
from landuse.config.schema import CustomModelConfig
from landuse.runs import read_config

REPEATS, WARM_UP = 50, 5


def measure(run: Path) -> float:
    """Milliseconds from one image, normalised and on the device, to its logits there: the median of 50.

    On the device and in the precision that the run was trained with. Other work on the machine, such as further workers
    of the sweep, makes it longer.

    Raises:
        UserError: the run has no model that can be loaded.
    """
    import torch

    from landuse.models.export import load_model
    from landuse.training.device import build_runtime

    config = from_tree(read_config(run))
    loaded = load_model(run, config.model if isinstance(config.model, CustomModelConfig) else None)
    runtime = build_runtime(config.trainer.device, config.hardware, loaded.model)
    model = runtime.place(loaded.model)
    image = torch.zeros(1, 3, loaded.image_size, loaded.image_size, device=runtime.device)
    milliseconds = []
    with torch.inference_mode(), runtime.autocast():
        for _ in range(WARM_UP + REPEATS):
            started = time.perf_counter()
            model(image).sum().item()  # waits for the device
            milliseconds.append(1000 * (time.perf_counter() - started))
    return statistics.median(milliseconds[WARM_UP:])

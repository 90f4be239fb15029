"""Batched augmentation and normalisation, on the device that trains.

Images arrive as uint8 (N, H, H, 3) and leave as normalised float (N, 3, h, h) in channels_last memory. The random
numbers are drawn on the host from the generator handed in, a fixed count per call whatever is switched on; so the
parameters are a pure function of (configuration, generator state), the same on every device, and switching one part
off leaves the others as they were. No call waits for the device: nothing is read back, and what is sent are a few
kilobytes of parameters, which CUDA stages without waiting even from pageable memory (up to 64 KiB per copy).
"""

from landuse.data.augment.colour import normalise
from landuse.data.augment.draws import Draws
from landuse.data.augment.mixing import Mix, Mixing
from landuse.data.augment.pipeline import Augmentation, image_sizes

__all__ = ["Augmentation", "Draws", "Mix", "Mixing", "image_sizes", "normalise"]

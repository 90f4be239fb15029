"""What can be said about devices without importing torch, so that a wrong ``trainer.device`` answers at once."""

import ctypes
import platform
import re
import sys
from collections.abc import Iterator

from landuse.config.messages import wrong_choice

DEVICE_FORM = re.compile(r"auto|cpu|cuda(:\d+)?|mps")


def num_cuda_devices() -> int:
    """Devices that the NVIDIA driver shows this process (it honours CUDA_VISIBLE_DEVICES); 0 without a driver."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


def has_mps() -> bool:
    """True on Apple silicon."""
    return sys.platform == "darwin" and platform.machine() == "arm64"


def device_rules(device: str) -> Iterator[str]:
    """What is wrong with ``trainer.device`` on this machine."""
    if not DEVICE_FORM.fullmatch(device):
        yield wrong_choice("trainer.device", device, ["auto", "cpu", "cuda", "cuda:0", "mps"])
    elif device.startswith("cuda"):
        found, index = num_cuda_devices(), int(device.partition(":")[2] or 0)
        if found == 0:
            yield f"trainer.device={device}: this machine has no usable NVIDIA GPU; use trainer.device=cpu or auto."
        elif index >= found:
            yield f"trainer.device={device}: only {found} GPU(s) are visible; use cuda:0 to cuda:{found - 1}."
    elif device == "mps" and not has_mps():
        yield "trainer.device=mps: needs a Mac with Apple silicon; use trainer.device=cpu or auto."

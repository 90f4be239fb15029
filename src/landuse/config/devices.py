"""What can be said about devices without importing torch, so that a wrong ``trainer.device`` answers at once."""

import ctypes
import platform
import re
import sys

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

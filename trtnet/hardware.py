"""What this machine has to execute engines with."""

from __future__ import annotations

import ctypes
import sys


def missing_gpu() -> str | None:
    """Why CUDA cannot run here, in words; ``None`` where a GPU and its driver are there.

    Asks the driver itself, so that neither torch nor a CUDA toolkit is needed.
    """
    library = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        driver = ctypes.CDLL(library)
    except OSError:
        return "no NVIDIA driver is installed on this machine"
    status = driver.cuInit(0)
    if status:
        return f"the NVIDIA driver finds no usable GPU (CUDA error {status})"
    count = ctypes.c_int()
    driver.cuDeviceGetCount(ctypes.byref(count))
    return None if count.value else "this machine has no NVIDIA GPU"

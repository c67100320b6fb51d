"""The GPUs of this machine and their driver."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trtnet.errors import CudaError

VISIBLE_DEVICES = "CUDA_VISIBLE_DEVICES"  # the environment variable by which CUDA hides GPUs
_NOT_INITIALIZED = 3  # CUDA_ERROR_NOT_INITIALIZED, of cuInit after a fork
_NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE
_NVIDIA, _DISPLAY = "0x10de", "0x03"  # PCI vendor and base class
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*


@dataclass(frozen=True)
class GpuDevice:
    """One GPU that CUDA can use here.

    Attributes:
        index: its number, as in ``cuda:0``.
        name: as the driver gives it, such as ``"NVIDIA H200"``.
        compute_capability: such as ``(9, 0)``.
        memory: in bytes.
    """

    index: int
    name: str
    compute_capability: tuple[int, int]
    memory: int


def missing_gpu() -> str | None:
    """Why CUDA cannot run here, as a clause for messages; ``None`` if there is a usable GPU.

    Asks the driver itself, so that neither torch nor a CUDA toolkit is needed.
    """
    driver = _driver()
    if driver is None:
        return "no NVIDIA driver is installed on this machine"
    status = driver.cuInit(0)
    hidden = os.environ.get(VISIBLE_DEVICES)
    if status == _NO_DEVICE and hidden is not None:
        return f"{VISIBLE_DEVICES}={hidden} hides every GPU"
    if status == _NOT_INITIALIZED:
        return "this process was forked from one that used CUDA"
    if status:
        return f"the NVIDIA driver finds no usable GPU (CUDA error {status})"
    return None if _count(driver) else "this machine has no NVIDIA GPU"


def gpus() -> list[GpuDevice]:
    """The GPUs that CUDA can use here, in CUDA's order; none if :func:`missing_gpu` gives a
    reason.

    Raises:
        CudaError: the driver does not describe a GPU that it counts.
    """
    driver = _driver()
    if driver is None or missing_gpu() is not None:
        return []
    return [_gpu(driver, index) for index in range(_count(driver))]


def driver_cuda_version() -> tuple[int, int] | None:
    """The newest CUDA version that the driver supports, such as ``(13, 2)``; ``None`` without a
    driver."""
    driver, version = _driver(), ctypes.c_int()
    if driver is None or driver.cuDriverGetVersion(ctypes.byref(version)):
        return None
    return version.value // 1000, version.value % 1000 // 10


def driver_version() -> str | None:
    """The version of the NVIDIA driver, such as ``"580.95.05"``; ``None`` if it cannot be read."""
    library = _library("libnvidia-ml.so.1", "nvml.dll")
    if library is None or library.nvmlInit_v2():
        return None
    text = ctypes.create_string_buffer(96)
    status = library.nvmlSystemGetDriverVersion(text, len(text))
    library.nvmlShutdown()
    return None if status else text.value.decode()


def has_nvidia_card() -> bool:
    """Whether Linux sees an NVIDIA display or compute card on the PCI bus, driver or not."""
    for device in Path("/sys/bus/pci/devices").glob("*"):
        with contextlib.suppress(OSError):
            vendor, kind = ((device / name).read_text().strip() for name in ("vendor", "class"))
            if vendor == _NVIDIA and kind.startswith(_DISPLAY):
                return True
    return False


def _gpu(driver: Any, index: int) -> GpuDevice:
    device, memory = ctypes.c_int(), ctypes.c_size_t()
    name = ctypes.create_string_buffer(256)
    _call(driver, "cuDeviceGet", ctypes.byref(device), index)
    _call(driver, "cuDeviceGetName", name, len(name), device)
    _call(driver, "cuDeviceTotalMem_v2", ctypes.byref(memory), device)
    numbers = []
    for attribute in (_MAJOR, _MINOR):
        number = ctypes.c_int()
        _call(driver, "cuDeviceGetAttribute", ctypes.byref(number), attribute, device)
        numbers.append(number.value)
    return GpuDevice(index, name.value.decode(), (numbers[0], numbers[1]), memory.value)


def _count(driver: Any) -> int:
    count = ctypes.c_int()
    _call(driver, "cuDeviceGetCount", ctypes.byref(count))
    return count.value


def _call(driver: Any, function: str, *arguments: Any) -> None:
    """Calls a function of the driver's library; :mod:`trtnet.cuda` would need cuda-python.

    Raises:
        CudaError: it failed.
    """
    status = getattr(driver, function)(*arguments)
    if status:
        raise CudaError(f"{function} failed", got=f"CUDA error {status}")


def _driver() -> Any:
    return _library("libcuda.so.1", "nvcuda.dll")


def _library(linux: str, windows: str) -> Any:
    """A library of the driver; ``None`` if it is not installed."""
    try:
        return ctypes.CDLL(windows if sys.platform == "win32" else linux)
    except OSError:
        return None

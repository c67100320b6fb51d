"""What is installed on this machine, and what hardware it has."""

from __future__ import annotations

from dataclasses import dataclass

from trtnet import hardware
from trtnet.pipeline.packages import PACKAGES, installed_version, torch_cuda


@dataclass(frozen=True)
class Machine:
    """Hardware, driver and packages; versions are text, ``None`` where something is missing.

    Attributes:
        driver: of NVIDIA; `driver_cuda` is the newest CUDA that it supports.
        problem: why CUDA cannot run here.
        packages: version by name.
        torch_cuda: the CUDA version that PyTorch was built for.
    """

    driver: str | None
    driver_cuda: tuple[int, int] | None
    problem: str | None
    gpus: tuple[hardware.GpuDevice, ...]
    packages: dict[str, str | None]
    torch_cuda: str | None


def examine() -> Machine:
    """This machine. PyTorch is found, but not imported."""
    return Machine(
        driver=hardware.driver_version(),
        driver_cuda=hardware.driver_cuda_version(),
        problem=hardware.missing_gpu(),
        gpus=tuple(hardware.gpus()),
        packages={name: installed_version(name) for name in PACKAGES},
        torch_cuda=torch_cuda(),
    )

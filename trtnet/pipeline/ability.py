"""What a machine can build and run; for the rest, why not and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from trtnet import backend, hardware
from trtnet.errors import BackendError
from trtnet.pipeline.machine import Machine

_RTX_CAPABILITIES = ((7, 5), (8, 0), (8, 6), (8, 9))  # and 12.0 or later; see TensorRT-RTX's docs
_RTX_FROM = (12, 0)

Problem = tuple[str, str]
"""Why something cannot be done, and what to do about it."""


@dataclass(frozen=True)
class Ability:
    """Something a machine can do, or cannot because of `problem`.

    Attributes:
        task: for programs, such as ``"run torch cuda"``.
        title: for people.
    """

    task: str
    title: str
    problem: str | None = None
    fix: str | None = None


def abilities(machine: Machine) -> list[Ability]:
    """What trtnet can do on `machine`, and what it cannot."""
    checks: tuple[tuple[str, str, Callable[[Machine], Iterator[Problem]]], ...] = (
        ("build rtx", "build engines for TensorRT-RTX", _build_rtx),
        ("build tensorrt", "build engines for TensorRT", _build_tensorrt),
        ("build torch", "build engines for the torch backend", _build_torch),
        ("verify", "verify networks against PyTorch", _verify),
        ("run torch cpu", "run torch engines on the CPU", _torch),
        ("run torch cuda", "run torch engines on a GPU", _run_torch_cuda),
        ("run rtx", "run TensorRT-RTX engines", _run_rtx),
        ("run tensorrt", "run TensorRT engines", _run_tensorrt),
    )
    found = []
    for task, title, check in checks:
        problem, fix = next(check(machine), (None, None))
        found.append(Ability(task, title, problem, fix))
    return found


def _basics(machine: Machine) -> Iterator[Problem]:
    missing = [n for n in ("numpy", "safetensors", "rich") if machine.packages[n] is None]
    if missing:
        yield f"{' and '.join(missing)} missing", f"pip install {' '.join(missing)}"


def _build_rtx(machine: Machine) -> Iterator[Problem]:
    yield from _basics(machine)
    yield from _package(machine, "rtx")


def _build_tensorrt(machine: Machine) -> Iterator[Problem]:
    yield from _basics(machine)
    yield from _gpu(machine, "TensorRT defines and builds networks only with one")
    yield from _package(machine, "tensorrt")


def _build_torch(machine: Machine) -> Iterator[Problem]:
    yield from _basics(machine)
    if next(_build_rtx(machine), None) and next(_build_tensorrt(machine), None):
        yield (
            "networks are defined with TensorRT's API, and neither TensorRT works here",
            'pip install "trtnet[rtx]", which needs no GPU',
        )
    yield from _torch(machine)


def _verify(machine: Machine) -> Iterator[Problem]:
    yield from _build_torch(machine)
    if machine.packages["torchvision"] is None:
        yield "torchvision is not installed", 'pip install "trtnet[torch]"'


def _torch(machine: Machine) -> Iterator[Problem]:
    yield from _basics(machine)
    if machine.packages["torch"] is None:
        yield "torch is not installed", 'pip install "trtnet[torch]"'


def _run_torch_cuda(machine: Machine) -> Iterator[Problem]:
    yield from _torch(machine)
    yield from _gpu(machine)
    if machine.torch_cuda is None:
        yield "this PyTorch was built without CUDA", "choose a CUDA build on https://pytorch.org"
    yield from _supported_by_driver(machine, "PyTorch", machine.torch_cuda)
    yield from _cuda_python(machine)


def _run_rtx(machine: Machine) -> Iterator[Problem]:
    yield from _basics(machine)
    yield from _gpu(machine)
    if not any(_rtx_runs_on(gpu.compute_capability) for gpu in machine.gpus):
        names = ", ".join(
            f"{gpu.name} ({'.'.join(map(str, gpu.compute_capability))})" for gpu in machine.gpus
        )
        yield (
            "TensorRT-RTX runs on compute capability 7.5, 8.0, 8.6, 8.9 and 12.0 or later, but "
            f"here is {names}",
            "use the torch backend or TensorRT here: --backend torch, --backend tensorrt",
        )
    yield from _package(machine, "rtx")
    yield from _cuda_python(machine)


def _run_tensorrt(machine: Machine) -> Iterator[Problem]:
    yield from _basics(machine)
    yield from _gpu(machine)
    yield from _package(machine, "tensorrt")
    yield from _cuda_python(machine)


def _gpu(machine: Machine, why: str = "") -> Iterator[Problem]:
    if machine.problem is None:
        return
    problem = f"{machine.problem}; {why}" if why else machine.problem
    if hardware.VISIBLE_DEVICES in machine.problem:
        yield problem, f"unset {hardware.VISIBLE_DEVICES}, or name a GPU in it"
    elif machine.driver_cuda is not None:
        yield problem, "nvidia-smi shows what the driver sees; in a container: --gpus all"
    elif hardware.has_nvidia_card():
        yield problem, "install it: https://www.nvidia.com/drivers (Ubuntu: ubuntu-drivers install)"
    else:
        yield problem, "use a machine with an NVIDIA GPU; in a container: start it with --gpus all"


def _package(machine: Machine, name: str) -> Iterator[Problem]:
    """Loads the TensorRT package: one that is there can still be broken."""
    extra = f'pip install "trtnet[{name}]"'
    if machine.packages["tensorrt-rtx" if name == "rtx" else name] is None:
        yield f"{backend.PACKAGES[name]} is not installed", extra
        return
    try:
        backend.load(name)
    except BackendError as error:
        yield error.problem, error.fix or extra
    except Exception as error:  # a broken package may fail with anything
        yield f"{backend.PACKAGES[name]} cannot be imported: {error}", f"{extra} --force-reinstall"


def _cuda_python(machine: Machine) -> Iterator[Problem]:
    version, fix = machine.packages["cuda-python"], 'pip install "trtnet[cuda]"'
    if version is None:
        yield "cuda-python is not installed", fix
    elif version != "unknown" and int(version.partition(".")[0]) < 13:
        yield f"cuda-python {version} is too old, it takes 13 or later", f"{fix} -U"
    yield from _supported_by_driver(machine, "cuda-python", version)


def _supported_by_driver(machine: Machine, what: str, version: str | None) -> Iterator[Problem]:
    """A driver runs what was built for any release of its CUDA's major version, and older."""
    if version is None or not version[0].isdigit() or machine.driver_cuda is None:
        return
    if int(version.partition(".")[0]) > machine.driver_cuda[0]:
        has = ".".join(map(str, machine.driver_cuda))
        yield (
            f"{what} {version} needs a driver for CUDA {version.partition('.')[0]}, this one has "
            f"{has}",
            "update the driver: https://www.nvidia.com/drivers",
        )


def _rtx_runs_on(capability: tuple[int, int]) -> bool:
    return capability in _RTX_CAPABILITIES or capability >= _RTX_FROM

"""What a machine can build and run; for the rest, why not and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from trtnet import backend, hardware
from trtnet.backend import BackendDescription, SmallRuntime
from trtnet.backend.description import dotted
from trtnet.errors import BackendError
from trtnet.extras import install
from trtnet.pipeline.machine import Machine

REQUIRED = ("numpy", "rich", "filelock", "msgspec")  # packages without which nothing works
_UNSEEN = ""  # a package that was not looked for: loading the backend tells whether it is there

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


Check = Callable[["Machine"], Iterator[Problem]]


def abilities(machine: Machine) -> list[Ability]:
    """What trtnet can do on `machine`, and what it cannot, for every backend."""
    found = []
    for task, title, check in _checks():
        problem, fix = next(check(machine), (None, None))
        found.append(Ability(task, title, problem, fix))
    return found


def _checks() -> Iterator[tuple[str, str, Check]]:
    """Task, title and check of every ability; what needs the least comes first."""
    building = sorted(
        backend.descriptions(), key=lambda d: (d.package is None, d.needs_gpu_to_define)
    )
    for about in building:
        yield f"build {about.name}", f"build engines for {_title(about)}", partial(_build, about)
    yield "verify", "verify networks against PyTorch", _verify
    for about in sorted(building, key=lambda d: d.needs_gpu):
        if about.needs_gpu:
            yield f"run {about.name}", f"run {about.title} engines", partial(_run, about)
            for small in about.runtimes:
                title = f"run version-compatible {about.title} engines with {small.title}"
                yield f"run {about.name} {small.name}", title, partial(_run_small, small)
            continue
        own = f"run {about.name}"
        yield f"{own} cpu", f"{own} engines on the CPU", partial(_installed, about)
        if "cuda" in about.devices:
            yield f"{own} cuda", f"{own} engines on a GPU", partial(_run, about)


def _title(about: BackendDescription) -> str:
    return about.title if about.package is not None else f"the {about.name} backend"


def _basics(machine: Machine) -> Iterator[Problem]:
    missing = [name for name in REQUIRED if machine.packages[name] is None]
    if missing:
        yield f"{' and '.join(missing)} missing", f"pip install {' '.join(missing)}"


def _build(about: BackendDescription, machine: Machine) -> Iterator[Problem]:
    yield from _basics(machine)
    if about.package is None:
        yield from _define(machine)
        yield from _installed(about, machine)
        return
    if about.needs_gpu_to_define:
        yield from _gpu(machine, f"{about.title} defines and builds networks only with one")
    yield from _package(about, about.package, machine)


def _define(machine: Machine) -> Iterator[Problem]:
    """With whichever TensorRT works here."""
    defining = [found for found in backend.descriptions() if found.package is not None]
    if all(next(_build(found, machine), None) for found in defining):
        simplest = min(defining, key=lambda found: found.needs_gpu_to_define)
        yield (
            "networks are defined with TensorRT's API, and neither TensorRT works here",
            f"{simplest.install}, which needs no GPU",
        )


def _verify(machine: Machine) -> Iterator[Problem]:
    yield from _basics(machine)
    yield from _define(machine)
    for name in ("torch", "torchvision"):
        if machine.packages[name] is None:
            yield f"{name} is not installed", install("torch")


def _installed(about: BackendDescription, machine: Machine) -> Iterator[Problem]:
    yield from _basics(machine)
    if machine.packages.get(about.distribution, _UNSEEN) is None:
        yield f"{about.distribution} is not installed", about.install


def _run(about: BackendDescription, machine: Machine) -> Iterator[Problem]:
    """On a GPU."""
    if about.package is None:
        yield from _installed(about, machine)
    yield from _basics(machine)
    yield from _gpu(machine)
    if about.runs_in_pytorch:
        if machine.torch_cuda is None:
            fix = "choose a CUDA build on https://pytorch.org"
            yield "this PyTorch was built without CUDA", fix
        yield from _supported_by_driver(machine, "PyTorch", machine.torch_cuda)
    yield from _targets(about, machine)
    if about.package is not None:
        yield from _package(about, about.package, machine)
    yield from _cuda_python(machine)


def _run_small(small: SmallRuntime, machine: Machine) -> Iterator[Problem]:
    """On a GPU, with a package that runs engines alone."""
    yield from _basics(machine)
    yield from _gpu(machine)
    if machine.packages.get(f"tensorrt-{small.name}") is None:
        yield f"{small.distribution} is not installed", small.install
    yield from _cuda_python(machine)


def _targets(about: BackendDescription, machine: Machine) -> Iterator[Problem]:
    targets = about.gpu_targets
    if targets is None or any(targets.supports(gpu.compute_capability) for gpu in machine.gpus):
        return
    names = ", ".join(f"{gpu.name} ({dotted(gpu.compute_capability)})" for gpu in machine.gpus)
    others = [found for found in backend.descriptions() if found.gpu_targets is None]
    yield (
        f"{about.title} runs on compute capability {targets.describe_supported()}, but here is "
        f"{names}",
        "use another backend here: " + ", ".join(f"--backend {found.name}" for found in others),
    )


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


def _package(about: BackendDescription, package: str, machine: Machine) -> Iterator[Problem]:
    """Loads the TensorRT package: an installed one can be broken."""
    if machine.packages.get(about.distribution, _UNSEEN) is None:
        yield f"{package} is not installed", about.install
        return
    try:
        backend.load(about.name)
    except BackendError as error:
        yield error.problem, error.fix or about.install
    except Exception as error:  # a broken package may fail with anything
        yield (
            f"{package} cannot be imported: {error}",
            f"pip install --force-reinstall {about.distribution}",
        )


def _cuda_python(machine: Machine) -> Iterator[Problem]:
    version, fix = machine.packages["cuda-python"], install("cuda")
    if version is None:
        yield "cuda-python is not installed", fix
    elif version != "unknown" and int(version.partition(".")[0]) < 13:
        yield (
            f"cuda-python {version} is too old, it takes 13 or later",
            "pip install -U cuda-python",
        )
    yield from _supported_by_driver(machine, "cuda-python", version)


def _supported_by_driver(machine: Machine, what: str, version: str | None) -> Iterator[Problem]:
    """A driver runs what was built for any release of its CUDA's major version, and older."""
    if version is None or not version[0].isdigit() or machine.driver_cuda is None:
        return
    if int(version.partition(".")[0]) > machine.driver_cuda[0]:
        yield (
            f"{what} {version} needs a driver for CUDA {version.partition('.')[0]}, this one has "
            f"{dotted(machine.driver_cuda)}",
            "update the driver: https://www.nvidia.com/drivers",
        )

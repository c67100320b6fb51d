"""The machine that a certificate is made on."""

from __future__ import annotations

import os
import platform
import re
import sys
from pathlib import Path

from trtnet import backend as backends
from trtnet import hardware
from trtnet.backend import BackendDescription
from trtnet.backend.description import dotted
from trtnet.certify.schema import Environment
from trtnet.errors import BackendError, UsageError
from trtnet.own_version import __version__
from trtnet.pipeline.ability import Ability, abilities
from trtnet.pipeline.machine import Machine, examine
from trtnet.reading.files import read_if_present

_MOST_BYTES = 1 << 20  # of a file of the system or of git


def environment(backend: str = "auto", device: str = "auto") -> Environment:
    """What `backend` runs on here.

    Args:
        backend: a name; ``"auto"`` takes the first whose engines this machine executes.
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:1"``; ``"auto"`` takes a GPU if there is one.

    Raises:
        UsageError: no such device, or one that these engines do not run on.
        BackendError: this machine cannot build engines for `backend`.
    """
    if re.fullmatch(r"auto|cpu|cuda(:\d+)?", device) is None:
        raise UsageError(f"no device {device!r}", expected="auto, cpu, cuda, cuda:1, ...")
    machine = examine()
    found = {ability.task: ability for ability in abilities(machine)}
    about = _chosen(backend, device, found)
    building = found[f"build {about.name}"]
    if building.problem is not None:
        raise BackendError(
            f"this machine cannot build engines for {about.title}: {building.problem}",
            fix=building.fix,
        )
    where = _device(about, device, machine)
    gpu = _gpu(machine, where)
    return Environment(
        backend=about.name,
        backend_version=backends.load(about.name).version,
        device=where,
        not_executed=_run(about, where, found).problem,
        gpu=None if gpu is None else gpu.name,
        compute_capability=None if gpu is None else dotted(gpu.compute_capability),
        gpu_memory=None if gpu is None else gpu.memory,
        driver=machine.driver,
        driver_cuda=None if machine.driver_cuda is None else dotted(machine.driver_cuda),
        cpu=_cpu(),
        processors=os.cpu_count() or 1,
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        packages=dict(machine.packages),
        torch_cuda=machine.torch_cuda,
        trtnet=str(__version__),
        commit=_commit(Path(__file__).resolve().parents[2]),
    )


def _chosen(name: str, device: str, found: dict[str, Ability]) -> BackendDescription:
    if name != "auto":
        return backends.description(name)
    for about in backends.descriptions():
        task = f"build {about.name}"
        if (
            task in found
            and found[task].problem is None
            and (device != "cpu" or not about.needs_gpu)
        ):
            where = "cpu" if device == "cpu" else "cuda"
            if _run(about, where, found).problem is None:
                return about
    return backends.portable()


def _run(about: BackendDescription, device: str, found: dict[str, Ability]) -> Ability:
    kind = "" if about.needs_gpu else f" {device.partition(':')[0]}"
    return found[f"run {about.name}{kind}"]


def _device(about: BackendDescription, device: str, machine: Machine) -> str:
    if device == "auto":
        return "cuda" if machine.problem is None or about.needs_gpu else "cpu"
    if device == "cpu" and about.needs_gpu:
        raise UsageError(f"engines of {about.name} run on a GPU alone", got=device,
                         fix="leave --device (device=) out, or choose --backend torch "
                         "(backend='torch')")  # fmt: skip
    if device != "cpu" and machine.problem is None and _gpu(machine, device) is None:
        raise UsageError(f"no device {device!r}",
                         expected=", ".join(f"cuda:{gpu.index}" for gpu in machine.gpus),
                         fix="choose one with --device (device=)")  # fmt: skip
    return device


def _gpu(machine: Machine, device: str) -> hardware.GpuDevice | None:
    if device == "cpu":
        return None
    index = int(device.partition(":")[2] or 0)
    return next((gpu for gpu in machine.gpus if gpu.index == index), None)


def _cpu() -> str | None:
    """The processor's name."""
    if sys.platform == "linux":
        text = read_if_present("/proc/cpuinfo", "the list of processors", _MOST_BYTES) or b""
        for line in text.decode("utf-8", "replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return " ".join(value.split())
    return platform.processor() or None


def _commit(checkout: Path) -> str | None:
    """What git has checked out in the folder `checkout`; ``None`` where that is no checkout."""
    folder = checkout / ".git"
    try:
        if folder.is_file():  # of a worktree
            folder = checkout / folder.read_text().partition(":")[2].strip()
        head = (folder / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return head
        name = head.removeprefix("ref: ")
        common = folder / "commondir"
        shared = folder / common.read_text().strip() if common.is_file() else folder
        for place in (folder, shared):
            if (place / name).is_file():
                return (place / name).read_text().strip()
        lines = (shared / "packed-refs").read_text().splitlines()
        return next((line.split()[0] for line in lines if line.endswith(f" {name}")), None)
    except (OSError, UnicodeDecodeError):
        return None

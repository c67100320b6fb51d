"""``trtnet doctor``: what this machine can build and run, and what prevents the rest."""

from __future__ import annotations

import argparse
import dataclasses
import platform
import sys
from collections.abc import Sequence
from typing import Any

import trtnet
from trtnet import hardware
from trtnet.backend.description import dotted
from trtnet.cli.flags import Parser
from trtnet.cli.paths import output_report
from trtnet.cli.report import write_json
from trtnet.cli.streams import say
from trtnet.pipeline.ability import Ability, abilities
from trtnet.pipeline.machine import Machine, examine

_LOST = {  # what is slower without a package; what cannot be done at all is an ability
    "triton": "on a GPU, engines of the torch backend run without tactics that are timed",
    "openvino": "on a CPU, engines of the torch backend run in PyTorch only",
}


def main(argv: Sequence[str]) -> int:
    """Runs the command line; returns 0, whatever it finds."""
    return run(_parser().parse_args(argv))


def run(arguments: argparse.Namespace) -> int:
    """Prints or writes the report; returns 0."""
    machine = examine()
    found = abilities(machine)
    if arguments.json is None:
        say(*lines(machine, found))
    else:
        write_json(as_json(machine, found), arguments.json)
    return 0


def lines(machine: Machine, found: Sequence[Ability]) -> list[str]:
    """The report for people."""
    text = [
        f"trtnet    {trtnet.__version__}, Python {platform.python_version()}, "
        f"{platform.system()} {platform.machine()}",
        f"driver    {_driver(machine)}",
        *(f"GPU {gpu.index:<5} {_gpu(gpu)}" for gpu in machine.gpus),
    ]
    if machine.problem is not None:
        text.append(f"GPU       none: {machine.problem}")
    for place, (name, version) in enumerate(machine.packages.items()):
        text.append(f"{'' if place else 'packages':10}{name} {_package(name, version, machine)}")
    text += ["", "This machine can"]
    for ability in found:
        text.append(f"  {'yes' if ability.problem is None else 'no ':3}  {ability.title}")
        if ability.problem is not None:
            text += [f"         why: {ability.problem}", f"         fix: {ability.fix}"]
    return text


def as_json(machine: Machine, found: Sequence[Ability]) -> dict[str, Any]:
    """The report for programs."""
    return {
        "trtnet": trtnet.__version__,
        "python": platform.python_version(),
        "platform": f"{sys.platform} {platform.machine()}",
        "driver": {
            "version": machine.driver,
            "cuda": None if machine.driver_cuda is None else dotted(machine.driver_cuda),
            "problem": machine.problem,
        },
        "gpus": [
            {**dataclasses.asdict(gpu), "compute_capability": dotted(gpu.compute_capability)}
            for gpu in machine.gpus
        ],
        "packages": machine.packages,
        "torch_cuda": machine.torch_cuda,
        "can": [
            {
                "do": ability.task,
                "ok": ability.problem is None,
                "why": ability.problem,
                "fix": ability.fix if ability.problem is not None else None,
            }
            for ability in found
        ],
    }


def _package(name: str, version: str | None, machine: Machine) -> str:
    if version is None:
        lost = _LOST.get(name)
        return f"is not installed{'' if lost is None else f': {lost}'}"
    return f"{version} (CUDA {machine.torch_cuda or 'none'})" if name == "torch" else version


def _driver(machine: Machine) -> str:
    if machine.driver is None and machine.driver_cuda is None:
        return "none"
    cuda = "unknown" if machine.driver_cuda is None else dotted(machine.driver_cuda)
    return f"{machine.driver or 'of unknown version'}, for CUDA up to {cuda}"


def _gpu(gpu: hardware.GpuDevice) -> str:
    capability = dotted(gpu.compute_capability)
    return f"{gpu.name}, compute capability {capability}, {gpu.memory / 2**30:.1f} GiB"


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="trtnet doctor",
        description="Says what this machine can build and run, and how to get the rest.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--json",
        nargs="?",
        const="-",
        type=output_report,
        metavar="PATH",
        help="the report as JSON; default: stdout",
    )
    return parser

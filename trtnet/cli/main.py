"""``trtnet SUBCOMMAND``: the console script."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence

import trtnet
from trtnet.cli.guard import program
from trtnet.cli.streams import say
from trtnet.errors import UsageError
from trtnet.names import did_you_mean

_PROGRAMS = {
    "zoo": ("trtnet.cli.zoo", "build, verify and list the models of the zoo"),
    "weights": ("trtnet.cli.weights", "extract, inspect and convert weights files"),
    "explain": ("trtnet.cli.explain", "which functions of PyTorch code map to layers"),
    "policy": ("trtnet.cli.policy", "which precision each module gets, and why"),
    "sensitivity": ("trtnet.cli.sensitivity", "what a lower precision harms, module by module"),
    "search": ("trtnet.cli.search", "the fastest mix of precisions within a budget"),
    "explore": ("trtnet.cli.explore", "a page that shows a network to the bottom, as one file"),
    "segment": ("trtnet.cli.segment", "colour images by what their pixels show"),
    "detect": ("trtnet.cli.detect", "find things in images and draw boxes around them"),
    "classify": ("trtnet.cli.classify", "name what images show"),
    "refit": ("trtnet.cli.refit", "put other weights into a built engine"),
    "run": ("trtnet.cli.run", "execute an engine on arrays or images"),
    "batch": ("trtnet.cli.batch", "an engine on very many images and GPUs, with Ray"),
    "bench": ("trtnet.cli.bench", "measure an engine or a model, as trtexec does"),
    "ceilings": ("trtnet.cli.ceilings", "measure what this processor can do at most"),
    "export": ("trtnet.cli.export", "a model repository of the Triton Inference Server"),
    "plugin": ("trtnet.cli.plugin", "start, test and time a custom plugin"),
    "certify": ("trtnet.cli.certify", "what this GPU, driver and version compute, as a file"),
    "doctor": ("trtnet.cli.doctor", "what this machine can build and run, and why not more"),
}
_NETWORK_COMMANDS = {
    "inspect": "list what TensorRT holds, layer by layer",
    "verify": "compare a model with PyTorch, module by module",
    "cost": "what each layer costs, and its least time on a GPU",
    "diff": "what differs between two networks",
    "lint": "mistakes and waste that TensorRT accepts without a warning",
}


@program
def main(argv: Sequence[str]) -> int:
    """Runs the subcommand in ``argv[0]`` with the rest of `argv`, by default those of the process;
    returns the exit status."""
    name = argv[0] if argv else "--help"
    if name in _PROGRAMS:
        return _run(_PROGRAMS[name][0], argv[1:])
    if name in _NETWORK_COMMANDS:
        return _run("trtnet.cli.networks", argv)
    if name == "--version":
        say(f"trtnet {trtnet.__version__}")
        return 0
    if name in ("-h", "--help"):
        say(*_usage())
        return 0
    known = [*_PROGRAMS, *_NETWORK_COMMANDS]
    raise UsageError(
        f"there is no subcommand {name!r}",
        expected=", ".join(known),
        fix=did_you_mean(name, known),
    )


def _run(module: str, arguments: Sequence[str]) -> int:
    """The exit status of the program in `module`, which is imported only now."""
    program: Callable[[Sequence[str]], int] = importlib.import_module(module).main
    return program(arguments)


def _usage() -> list[str]:
    described = {name: text for name, (_, text) in _PROGRAMS.items()} | _NETWORK_COMMANDS
    lines = [f"  {name:13}{text}" for name, text in described.items()]
    return ["usage: trtnet SUBCOMMAND [--help | ...]", "", *lines, "", "  --version"]


if __name__ == "__main__":
    sys.exit(main())

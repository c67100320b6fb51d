"""What runs a compiled module: PyTorch, or on a CPU OpenVINO, where it is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence

import torch
from torch import fx

from trtnet.building.profiles import Shapes
from trtnet.engines.protocol import Binding
from trtnet.engines.torch.compiled import Forward
from trtnet.errors import BackendError, UnsupportedError, UsageError
from trtnet.extras import install
from trtnet.reference.dtypes import DTYPES

RUNTIMES = ("torch", "openvino", "auto")


def choose(
    module: fx.GraphModule,
    bindings: Sequence[Binding],
    device: torch.device,
    shapes: Mapping[str, Shapes],
    *,
    runtime: str = "torch",
    compile: bool = False,
) -> tuple[Forward, str]:
    """What runs `module`, and its name, version and threads.

    Args:
        bindings: the inputs of `module`, in order, and whatever else.
        shapes: of the inputs that are not read on the host, for one profile.
        runtime: ``"torch"``, ``"openvino"``, or ``"auto"``: OpenVINO on a CPU where it is installed
            and has all that `module` needs.
        compile: have ``torch.compile`` compile it.

    Raises:
        UsageError: an unknown runtime, or OpenVINO on a GPU or with `compile`.
        BackendError: OpenVINO is asked for and not installed.
        UnsupportedError: OpenVINO is asked for and lacks something.
    """
    if runtime not in RUNTIMES:
        raise UsageError("no such runtime", expected=", ".join(RUNTIMES), got=repr(runtime))
    on_cpu = device.type == "cpu"
    if runtime == "openvino" and (compile or not on_cpu):
        got = "compile=True" if compile else f"device {device.type!r}"
        raise UsageError("OpenVINO runs engines on a CPU, as they are", got=got,
                         fix='leave it out, or take runtime="torch"')  # fmt: skip
    if compile:
        return torch.compile(module.forward), f"torch {torch.__version__}, torch.compile"
    name = f"torch {torch.__version__}" + (f", {_threads()}" if on_cpu else "")
    is_there = importlib.util.find_spec("openvino") is not None
    if runtime == "openvino" and not is_there:
        raise BackendError("OpenVINO is not installed", fix=install("cpu"))
    if runtime == "torch" or not on_cpu or not is_there:
        return module.forward, name
    from trtnet.engines.openvino.runtime import OpenVinoForward
    from trtnet.engines.openvino.values import LoweringError

    inputs = [binding for binding in bindings if binding.is_input]
    types = [(binding.name, DTYPES[binding.dtype]) for binding in inputs]
    sizes = tuple(shapes[b.name].opt if b.name in shapes else b.shape for b in inputs)
    try:
        forward = OpenVinoForward(module, types, sizes, torch.get_num_threads())
    except LoweringError as error:
        if runtime == "openvino":
            raise UnsupportedError("OpenVINO cannot run this engine", got=error,
                                   fix='runtime="torch"') from error  # fmt: skip
        return module.forward, f"{name}; not OpenVINO: {error}"
    left = f"; the rest torch, from {forward.reason}" if forward.reason else ""
    return forward, f"{forward.name}, {_threads()}{left}"


def _threads() -> str:
    count = torch.get_num_threads()
    return f"{count} thread{'s' * (count != 1)}"

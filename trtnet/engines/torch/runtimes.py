"""What runs a compiled module: PyTorch, or on a CPU OpenVINO, where it is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

import torch
from torch import fx

from trtnet.engines.protocol import Binding
from trtnet.engines.torch.compiled import Forward
from trtnet.errors import BackendError, UnsupportedError, UsageError
from trtnet.extras import install
from trtnet.reference.dtypes import DTYPES

RUNTIMES = ("auto", "torch", "openvino")


def choose(
    module: fx.GraphModule,
    bindings: Sequence[Binding],
    device: torch.device,
    *,
    runtime: str = "auto",
    compile: bool = False,
) -> tuple[Forward, str]:
    """What runs `module`, and its name, version and threads.

    Args:
        bindings: the inputs of `module`, in order, and whatever else.
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
    from trtnet.engines.openvino.lowering import LoweringError
    from trtnet.engines.openvino.runtime import OpenVinoForward

    inputs = [(b.name, DTYPES[b.dtype], b.shape) for b in bindings if b.is_input]
    try:
        forward = OpenVinoForward(module, inputs, torch.get_num_threads())
    except LoweringError as error:
        if runtime == "openvino":
            raise UnsupportedError("OpenVINO cannot run this engine", got=error,
                                   fix='runtime="torch"') from error  # fmt: skip
        return module.forward, f"{name}; not OpenVINO: {error}"
    return forward, f"{forward.name}, {_threads()}"


def _threads() -> str:
    count = torch.get_num_threads()
    return f"{count} thread{'s' * (count != 1)}"

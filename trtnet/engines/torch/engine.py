"""The torch backend: a read-back graph as an engine, on a CPU or a CUDA device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx

from trtnet import graph
from trtnet.building.plan import Plan
from trtnet.building.profiles import Shapes
from trtnet.engines.protocol import Binding, ExecutionError
from trtnet.engines.torch.context import TorchContext
from trtnet.engines.torch.passes import optimize
from trtnet.engines.torch.shapes import OutputShapes
from trtnet.errors import PlanError, TrtnetError
from trtnet.graph import Graph, TensorInfo
from trtnet.hardware import missing_gpu
from trtnet.reference.compiler import compile as compile_graph
from trtnet.reference.dtypes import execution_dtype
from trtnet.reference.site import is_shape_value

_UNLIMITED = 2**31 - 1
Forward = Callable[..., dict[str, Tensor]]


def load(plan: Plan, *, device: str, compile: bool = False) -> TorchEngine:
    """The engine in `plan`, which :func:`trtnet.build` made for the backend ``torch``.

    Args:
        plan: with or without a sidecar. The sidecar's profiles limit the input shapes, and its
            precision ``tf32`` allows TensorFloat-32 arithmetic on CUDA.
        device: ``"cpu"``, or ``"cuda"`` for the current CUDA device.
        compile: also run the module through ``torch.compile``, for each input shape at its first
            execution.

    Raises:
        PlanError: not an engine of this backend, a damaged one, or an unusable sidecar.
        UnsupportedError: a layer that cannot be executed.
        ExecutionError: there is no such device, or too little memory on it.
    """
    read = _read(plan)
    place = _place(device)
    profiles = _profiles(read, plan.sidecar.get("profiles"))
    try:
        module = compile_graph(read, device=place)
        if device == "cuda":
            optimize(module)
    except torch.OutOfMemoryError as error:
        raise ExecutionError(f"the weights do not fit onto {place}", got=error) from error
    forward = torch.compile(module) if compile else module
    parts = (read, module, forward, profiles, place, plan.sidecar.get("precision"))
    if device == "cpu":
        return TorchEngine(*parts)
    from trtnet.engines.torch.cuda import CudaEngine

    return CudaEngine(*parts)


class TorchEngine:
    """A compiled graph and its weights; see :class:`trtnet.engines.protocol.Engine`.

    Attributes:
        module: the graph's module, whose nodes know their layers.
        forward: what runs: `module`, or what ``torch.compile`` made of it.
        place: the torch device of its weights.
        output_shapes: see :class:`OutputShapes`.
        tf32: whether matrix products and convolutions of float32 values may use TF32.
    """

    backend = "torch"

    def __init__(
        self,
        read: Graph,
        module: fx.GraphModule,
        forward: Forward,
        profiles: tuple[Mapping[str, Shapes], ...],
        place: torch.device,
        precision: object,
    ) -> None:
        self.bindings = tuple(
            _binding(read.tensors[name], is_input)
            for names, is_input in ((read.inputs, True), (read.outputs, False))
            for name in names
        )
        self.profiles = profiles
        self.place, self.device = place, place.type
        self.module, self.forward = module, forward
        self.output_shapes = OutputShapes(read)
        self.tf32 = precision == "tf32"

    def create_context(self, profile: int) -> TorchContext:
        """A context of its own; every profile runs the same module."""
        if profile not in range(len(self.profiles)):
            raise ExecutionError(
                f"the engine has no profile {profile}", expected=f"0 to {len(self.profiles) - 1}"
            )
        return self._context()

    def _context(self) -> TorchContext:
        return TorchContext(self)

    def close(self) -> None:
        """Lets the weights go."""
        self.module = self.forward = fx.GraphModule({}, fx.Graph())


def _read(plan: Plan) -> Graph:
    try:
        return graph.loads(plan.engine, "the engine")
    except TrtnetError as error:
        raise PlanError(
            "this is no engine of the torch backend, or a damaged one",
            got=error,
            fix="build it again with --backend torch",
        ) from error


def _place(device: str) -> torch.device:
    if device == "cpu":
        return torch.device("cpu")
    if device != "cuda":
        raise ExecutionError(f"no device {device!r}", expected="cpu or cuda")
    if not torch.cuda.is_available():
        raise ExecutionError(
            f"PyTorch {torch.__version__} can use no CUDA device",
            got=missing_gpu() or "a GPU, and a driver that this PyTorch does not work with",
            fix='use device="cpu", or install a PyTorch for this driver',
        )
    return torch.device("cuda", torch.cuda.current_device())


def _binding(info: TensorInfo, is_input: bool) -> Binding:
    execution_dtype(info.dtype, False, info.name)  # raises for a type that PyTorch lacks
    on_host = is_input and is_shape_value(info)
    return Binding(info.name, info.dtype, info.shape, is_input, on_host)


def _profiles(read: Graph, stated: Any) -> tuple[Mapping[str, Shapes], ...]:
    """The sidecar's profiles, completed with the inputs of fixed shape. Without any, an axis of
    unknown size may have any size."""
    infos = [read.tensors[name] for name in read.inputs]
    infos = [info for info in infos if not is_shape_value(info)]
    return tuple(
        {info.name: _shapes(info, profile) for info in infos} for profile in stated or [{}]
    )


def _shapes(info: TensorInfo, profile: Any) -> Shapes:
    if info.name not in profile:
        low, high = (tuple(n if n >= 0 else free for n in info.shape) for free in (1, _UNLIMITED))
        return Shapes(low, low, high)
    try:
        stated = profile[info.name]
        found = Shapes(*(tuple(map(int, stated[key])) for key in ("min", "opt", "max")))
    except (KeyError, TypeError, ValueError) as error:
        raise _bad_profile(info, profile) from error
    rows = list(zip(info.shape, found.min, found.opt, found.max, strict=False))
    ranks = {len(found.min), len(found.opt), len(found.max)}
    fits = all(a <= b <= c and n in (-1, a) and n in (-1, c) for n, a, b, c in rows)
    if ranks != {len(info.shape)} or not fits:
        raise _bad_profile(info, profile)
    return found


def _bad_profile(info: TensorInfo, profile: object) -> PlanError:
    return PlanError(
        "the sidecar's profile does not fit this input",
        module=info.name,
        expected=f"min <= opt <= max for {info.shape}",
        got=f"{profile!a:.200}",
        fix="build the engine again",
    )

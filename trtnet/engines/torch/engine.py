"""The torch backend: a read-back graph as an engine, on a CPU or a CUDA device."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import fx

from trtnet import graph
from trtnet.building.archive_refit import refit_archive
from trtnet.building.plan import Plan
from trtnet.building.profiles import Shapes
from trtnet.building.sidecar import StatedShapes
from trtnet.engines.forking import is_forked
from trtnet.engines.protocol import Binding
from trtnet.engines.torch.compiled import CompiledGraph
from trtnet.engines.torch.constants import copy_by_call, fold
from trtnet.engines.torch.context import Contexts, CpuContexts, TorchContext
from trtnet.engines.torch.fusion import rewrite
from trtnet.engines.torch.passes import optimize
from trtnet.engines.torch.refitting import PreparedRefit, prepare
from trtnet.engines.torch.runtimes import choose
from trtnet.engines.torch.selections import select_at_once
from trtnet.engines.torch.shapes import OutputShapes
from trtnet.engines.torch.suppressions import recognize_suppressions
from trtnet.errors import BackendError, ExecutionError, PlanError, TrtnetError, located
from trtnet.graph import Graph, TensorInfo
from trtnet.hardware import missing_gpu
from trtnet.plugins.triton_folder import require_own, triton_folder
from trtnet.reference.compiler import compile as compile_graph
from trtnet.reference.dtypes import DTYPES, execution_dtype
from trtnet.reference.layer_context import is_shape_value

if TYPE_CHECKING:
    from trtnet.building.refitting import EngineChange
    from trtnet.engines.torch.tactics.network_builder import NetworkBuilder

_UNLIMITED = 2**31 - 1
_LEVEL = 3  # of optimization, by default


def load(
    plan: Plan,
    *,
    device: str,
    compile: bool = False,
    runtime: str = "torch",
    optimization_level: int | None = None,
    timing_cache: Path | None = None,
) -> TorchEngine:
    """The engine in `plan`, which :func:`trtnet.build` made for the backend ``torch``.

    Args:
        plan: with or without a sidecar. The sidecar's profiles limit the input shapes, and its
            precision ``tf32`` allows TensorFloat-32 arithmetic on CUDA.
        device: ``"cpu"``, or ``"cuda"`` for the current CUDA device.
        compile: also run the module through ``torch.compile``, for each input shape at its first
            execution.
        runtime: see :func:`trtnet.engines.torch.runtimes.choose`.
        optimization_level, timing_cache: see :class:`trtnet.Session`.

    Raises:
        UsageError, BackendError: as :func:`trtnet.engines.torch.runtimes.choose`; `timing_cache`
            is no such file; Triton, which `optimization_level` and `timing_cache` need, is missing.
        PlanError: not an engine of this backend, a damaged one, or an unusable sidecar.
        UnsupportedError: a layer that cannot be executed.
        ExecutionError: there is no such device, or too little memory on it; others may write to the
            folder of Triton's kernels.
    """
    read = _read(plan)
    place = _place(device)
    if is_forked():  # as in the workers of a DataLoader: the threads of OpenMP are gone, and a
        torch.set_num_threads(1)  # computation that wants them would wait for ever
    profiles = _profiles(read, plan.described.profiles)
    has_triton = place.type == "cuda" and importlib.util.find_spec("triton") is not None
    if has_triton:
        require_own(triton_folder())
    elif optimization_level is not None or timing_cache is not None:
        raise BackendError("tactics are timed with Triton, which is not installed",
                           fix="pip install triton")  # fmt: skip
    make = functools.partial(_compiled, place=place, runtime=runtime, compile=compile)
    compiled = make(plan, read, profiles[0])
    notes: tuple[str, ...] = ()
    if has_triton and not compile:
        level = _LEVEL if optimization_level is None else optimization_level
        builder = _builder(compiled, level, timing_cache)
        compiled.tactics, notes = builder, builder.notes
    return TorchEngine(compiled, profiles, _contexts(compiled), notes, make)


def _compiled(
    plan: Plan,
    read: Graph,
    shapes: Mapping[str, Shapes],
    *,
    place: torch.device,
    runtime: str,
    compile: bool,
) -> CompiledGraph:
    """What runs `read`, the graph of `plan`, without tactics; `shapes` are of one profile."""
    try:
        module = _compile(read, place)
    except torch.OutOfMemoryError as error:
        raise ExecutionError(f"the weights do not fit onto {place}", got=error) from error
    bindings = _bindings(read)
    forward, name = choose(module, bindings, place, shapes, runtime=runtime, compile=compile)
    return CompiledGraph(
        bindings=bindings,
        module=module,
        forward=forward,
        runtime=name,
        device=place,
        output_shapes=OutputShapes(read),
        tf32=plan.described.precision == "tf32",
    )


class TorchEngine:
    """A compiled graph and its weights; see :class:`trtnet.engines.protocol.Engine`.

    Attributes:
        bindings: the inputs, then the outputs.
        profiles: per profile, the range of shapes of every input that is not read on the host.
        device: ``"cpu"`` or ``"cuda"``.
        runtime: what runs it: name, version, and on a CPU the number of threads.
        notes: see :class:`trtnet.Session`.
    """

    backend = "torch"

    def __init__(
        self,
        compiled: CompiledGraph,
        profiles: tuple[Mapping[str, Shapes], ...],
        contexts: Contexts,
        notes: tuple[str, ...] = (),
        make: Callable[[Plan, Graph, Mapping[str, Shapes]], CompiledGraph] | None = None,
    ) -> None:
        """`make` makes the compiled graph of a plan with other weights, without tactics."""
        self.notes, self._make = notes, make
        self.bindings, self.profiles = compiled.bindings, profiles
        self.device, self.runtime = compiled.device.type, compiled.runtime
        self._compiled, self._contexts = compiled, contexts

    @property
    def module(self) -> fx.GraphModule:
        """The graph's module, whose nodes know their layers; empty once the engine is closed."""
        return self._compiled.module

    def create_context(self, profile: int) -> TorchContext:
        """A new context; every profile runs the same module.

        Raises:
            ExecutionError: the engine has no such profile.
        """
        if profile not in range(len(self.profiles)):
            raise ExecutionError(
                f"the engine has no profile {profile}", expected=f"0 to {len(self.profiles) - 1}"
            )
        return self._contexts.create()

    def prepare_refit(self, plan: Plan, change: EngineChange) -> PreparedRefit:
        """See :meth:`trtnet.engines.protocol.RefittableEngine.prepare_refit`."""
        assert self._make is not None
        new_plan = Plan(refit_archive(plan.engine, change), plan.sidecar)
        new = self._make(new_plan, _read(new_plan), self.profiles[0])
        if self._compiled.tactics is not None:
            new.tactics = self._compiled.tactics.for_module(new.module)
        with self._contexts.building():
            return prepare(self._compiled, new, self._contexts, new_plan.engine)

    def close(self) -> None:
        """Frees the weights; the contexts are closed before."""
        self._compiled.release()
        self._contexts.close()


def _compile(read: Graph, device: torch.device) -> fx.GraphModule:
    """The reference's module, rewritten to be fast on `device`."""
    if device.type == "cpu" or importlib.util.find_spec("triton") is not None:
        read = recognize_suppressions(read)
    module = compile_graph(read, device=device)
    fold(module)
    rewrite(module, device)
    if device.type == "cuda":
        optimize(module)
        copy_by_call(module)
    else:
        select_at_once(module)
    return module


def _builder(compiled: CompiledGraph, level: int, cache: Path | None) -> NetworkBuilder:
    """What builds faster modules of `compiled`, where PyTorch and Triton can run kernels."""
    from trtnet.engines.torch.tactics.builder import Builder, machine
    from trtnet.engines.torch.tactics.network_builder import NetworkBuilder
    from trtnet.engines.torch.tactics.timing_cache import TimingCache
    from trtnet.engines.torch.tactics.trials import time_captured

    types = [DTYPES[binding.dtype] for binding in compiled.bindings if binding.is_input]
    builder = Builder(level, TimingCache(machine(), cache), compiled.device, time_captured)
    return NetworkBuilder(compiled.module, types, builder, cache, compiled.tf32)


def _contexts(compiled: CompiledGraph) -> Contexts:
    if compiled.device.type == "cpu":
        return CpuContexts(compiled)
    from trtnet.engines.torch.cuda import CudaContexts  # needs cuda-python

    return CudaContexts(compiled)


def _read(plan: Plan) -> Graph:
    try:
        return graph.loads(plan.engine, "the engine")
    except TrtnetError as error:
        raise PlanError(
            "this is no engine of the torch backend, or a damaged one",
            got=error,
            fix='build it again with --backend torch, or backend="torch"',
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


def _bindings(read: Graph) -> tuple[Binding, ...]:
    inputs = [_binding(read.tensors[name], is_input=True) for name in read.inputs]
    return (*inputs, *(_binding(read.tensors[name], is_input=False) for name in read.outputs))


def _binding(info: TensorInfo, is_input: bool) -> Binding:
    with located(info.name):
        execution_dtype(info.dtype)  # raises for a type that PyTorch lacks
    on_host = is_input and is_shape_value(info)
    return Binding(info.name, info.dtype, info.shape, is_input, on_host)


def _profiles(
    read: Graph, stated: Sequence[Mapping[str, StatedShapes]] | None
) -> tuple[Mapping[str, Shapes], ...]:
    """The sidecar's profiles, completed with the inputs of fixed shape. Without any, an axis of
    unknown size may have any size."""
    infos = [read.tensors[name] for name in read.inputs]
    infos = [info for info in infos if not is_shape_value(info)]
    return tuple(
        {info.name: _shapes(info, profile) for info in infos} for profile in stated or [{}]
    )


def _shapes(info: TensorInfo, profile: Mapping[str, StatedShapes]) -> Shapes:
    if info.name not in profile:
        low, high = (tuple(n if n >= 0 else free for n in info.shape) for free in (1, _UNLIMITED))
        return Shapes(low, low, high)
    found = profile[info.name]
    rows = zip(info.shape, found.min, found.max, strict=False)
    fits = all(n in (-1, low) and n in (-1, high) for n, low, high in rows)
    if len(found.min) != len(info.shape) or not fits:
        raise PlanError(
            "the sidecar's profile does not fit this input",
            module=info.name,
            expected=f"shapes like {info.shape}, in which -1 stands for any size",
            got=f"from {found.min} to {found.max}",
            fix="build the engine again",
        )
    return Shapes(found.min, found.opt, found.max)

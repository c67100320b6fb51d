"""Quick plugins of TensorRT: a shape rule in Python while the engine is built, and PTX inside it.

``tensorrt.plugin`` reads a plugin's inputs and attributes off the signatures of functions; these
are made here from the declaration.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trtnet import hardware
from trtnet.dtypes import dtype_of
from trtnet.errors import BackendError, UnsupportedError
from trtnet.plugins import registry
from trtnet.plugins.kernels import CompiledKernel
from trtnet.plugins.sizes import evaluate
from trtnet.plugins.spec import Format, TensorSpec, numbered

if TYPE_CHECKING:
    from trtnet.backend import Backend
    from trtnet.plugins.declaration import Plugin

# What rows of numbers are to TensorRT: their element type, and how a signature says so.
_ROWS: dict[Any, tuple[Any, Any]] = {
    tuple[int, ...]: (np.int64, npt.NDArray[np.int64]),
    tuple[float, ...]: (np.float64, npt.NDArray[np.float64]),
}


def create(backend: Backend, plugin: Plugin, inputs: Sequence[Any]) -> Any:
    """An ``IPluginV3`` for `plugin` on the ``ITensor``s `inputs`, whose kernel the engine holds."""
    quick, trt = backend.quick_plugins(), backend.trt
    definition = _defined(quick, trt, type(plugin))
    values = {name: _stored(plugin.attributes.types[name], v) for name, v in plugin.values.items()}
    _, _, made = definition(*inputs, **values)(trt.QuickPluginCreationRequest.STRICT_AOT)
    return made


def _defined(quick: Any, trt: Any, kind: type[Plugin]) -> Any:
    """What TensorRT makes such plugins with; registered at the first call."""
    namespace, name = kind.name.split("::")
    if kind.version != "1":  # TensorRT calls every quick plugin version 1
        name = f"{name}_v{kind.version}"
    space = getattr(quick.op, namespace, None)
    if not hasattr(space, name):
        functions = _Functions(quick, trt, kind)
        quick.register(f"{namespace}::{name}")(functions.describe())
        quick.aot_impl(f"{namespace}::{name}")(functions.implement())
    return getattr(getattr(quick.op, namespace), name)


class _Functions:
    """What ``tensorrt.plugin`` wants of one plugin.

    The class is looked up at each call, so that a module that is loaded again replaces it.
    """

    def __init__(self, quick: Any, trt: Any, kind: type[Plugin]) -> None:
        self._quick, self._trt, self._key = quick, trt, (kind.name, kind.version)
        self._count = len(next(iter(kind.kernels)).outputs)
        row = inspect.Parameter.POSITIONAL_OR_KEYWORD
        self._inputs = [
            inspect.Parameter(name, row, annotation=quick.TensorDesc) for name in kind.inputs
        ]
        self._attributes = [
            inspect.Parameter(name, row, annotation=_annotation(stored))
            for name, stored in kind.attributes.types.items()
        ]

    def describe(self) -> Callable[..., Any]:
        """Types and shapes of the outputs."""

        def describe(*descs: Any, **values: Any) -> Any:
            plugin = self._plugin(values)
            entry = _entry(plugin, descs)
            if any(size.is_fake for desc in descs for size in desc.shape_expr):
                shapes: Sequence[tuple[Any, ...]] = [(self._quick.ShapeExpr(),)] * self._count
            else:
                ruled = plugin.rule(self._specs(descs))
                shapes = [tuple(self._size(n, descs) for n in spec.shape) for spec in ruled]
            dtypes = [dtype.of(self._trt) for dtype in entry.outputs]
            made = tuple(map(self._quick.from_shape_expr, shapes, dtypes))
            return made[0] if self._count == 1 else made

        desc = self._quick.TensorDesc
        returns = desc if self._count == 1 else _tuple_of(*(desc,) * self._count)
        return _signed(describe, [*self._inputs, *self._attributes], returns)

    def implement(self) -> Callable[..., Any]:
        """The kernel, its launch and its scalars."""

        def implement(*arguments: Any) -> tuple[str, str, Any, Any]:
            count = len(self._inputs)
            descs, outputs = arguments[:count], arguments[-2]
            names = [parameter.name for parameter in self._attributes]
            plugin = self._plugin(dict(zip(names, arguments[count:-2], strict=True)))
            kernel = plugin.kernels[_entry(plugin, descs)]
            assert isinstance(kernel, CompiledKernel)
            specs = self._specs(descs)
            specs += list(plugin.rule(specs))
            binary = kernel.compile(plugin, specs, capability())
            launch = kernel.launch(plugin, specs)
            made = self._quick.KernelLaunchParams()
            # A grid of no blocks is an error to CUDA; kernels leave what is outside alone.
            made.grid_x, made.grid_y, made.grid_z = (
                self._at_least_one(self._size(n, descs)) for n in launch.grid
            )
            made.block_x, made.shared_mem = binary.threads, binary.shared
            scalars = self._quick.SymIntExprs(len(launch.scalars))
            for i, n in enumerate(launch.scalars):
                scalars[i] = self._quick.SymInt32(self._size(n, descs))
            assert len(outputs) == self._count
            return binary.name, binary.ptx, made, scalars

        row = inspect.Parameter.POSITIONAL_OR_KEYWORD
        ends = [inspect.Parameter(name, row) for name in ("outputs", "tactic")]
        quick = self._quick
        returns = _tuple_of(str, str, quick.KernelLaunchParams, quick.SymIntExprs)
        return _signed(implement, [*self._inputs, *self._attributes, *ends], returns)

    def _plugin(self, values: dict[str, Any]) -> Plugin:
        kind = registry.find(*self._key)
        return kind(**{name: _plain(value) for name, value in values.items()})

    def _specs(self, descs: Sequence[Any]) -> list[TensorSpec]:
        """What the rule sees: the sizes that TensorRT knows, and symbols for the others."""
        known = [
            TensorSpec(
                tuple(n.constant_value() if n.is_constant else -1 for n in desc.shape_expr),
                dtype_of(desc.dtype),
            )
            for desc in descs
        ]
        return list(numbered(known))

    def _size(self, size: Any, descs: Sequence[Any]) -> Any:
        """`size` of a rule or a launch in TensorRT's arithmetic."""
        return evaluate(size, lambda i, axis: descs[i].shape_expr[axis], self._compute)

    def _compute(self, operation: str, left: Any, right: Any) -> Any:
        quick = self._quick
        if operation in ("CEIL_DIV", "MIN", "MAX"):
            function = {"CEIL_DIV": quick.cdiv, "MIN": quick.min, "MAX": quick.max}[operation]
            return function(left, right)
        first = quick.ShapeExpr(left) if isinstance(left, int) else left
        if operation == "SUM":
            return first + right
        if operation == "SUB":
            return first - right
        return first * right if operation == "PROD" else first // right

    def _at_least_one(self, size: Any) -> Any:
        return max(size, 1) if isinstance(size, int) else self._quick.max(size, 1)


def capability() -> int:
    """Compute capability, times ten, of the GPU that engines are built for: the one here.

    Raises:
        BackendError: there is none.
    """
    found = hardware.gpus()
    if not found:
        raise BackendError(
            "kernels are compiled for the GPU that the engine is built for",
            got=hardware.missing_gpu(),
            fix='build where there is one, or use plugins="native"',
        )
    major, minor = found[0].compute_capability
    return 10 * major + minor


def _entry(plugin: Plugin, descs: Sequence[Any]) -> Format:
    dtypes = tuple(dtype_of(desc.dtype) for desc in descs)
    for entry in plugin.kernels:
        if entry.inputs == dtypes:
            return entry
    raise UnsupportedError(
        "no kernel takes these types",
        module=plugin.name,
        expected="; ".join(map(str, plugin.kernels)),
        got=", ".join(dtype.value for dtype in dtypes),
    )


def _signed(
    function: Callable[..., Any], parameters: Sequence[inspect.Parameter], returns: Any
) -> Callable[..., Any]:
    """`function`, said to have these parameters."""
    function.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        parameters, return_annotation=returns
    )
    return function


def _annotation(kind: Any) -> Any:
    """What ``tensorrt.plugin`` calls the type of an attribute."""
    return _ROWS[kind][1] if kind in _ROWS else kind


def _tuple_of(*kinds: Any) -> Any:
    return types.GenericAlias(tuple, kinds)


def _stored(kind: Any, value: Any) -> Any:
    return np.array(value, _ROWS[kind][0]) if kind in _ROWS else value


def _plain(value: Any) -> Any:
    """What TensorRT gives back, as it was given."""
    return tuple(value.tolist()) if isinstance(value, np.ndarray) else value

"""TensorRT's quickly deployable plugins (the module ``tensorrt.plugin``).

While an engine is built, TensorRT calls Python functions for the shapes of the outputs and for the
compiled kernel; the engine then contains the kernel's PTX. ``tensorrt.plugin`` reads the inputs and
attributes of a plugin from the signatures of these functions, which are made here from the
declaration.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from trtnet import hardware
from trtnet.backend import Backend
from trtnet.dtypes import dtype_of
from trtnet.errors import BackendError, UnsupportedError, located
from trtnet.plugins import registry
from trtnet.plugins.declaration import Plugin
from trtnet.plugins.kernels import CompiledKernel
from trtnet.plugins.spec import Format, TensorSpec, with_symbolic_sizes
from trtnet.plugins.symbolic_sizes import AnySize, evaluate

# Attributes that are tuples are arrays in TensorRT: their element type, and the annotation.
_ROWS: dict[Any, tuple[Any, Any]] = {
    tuple[int, ...]: (np.int64, npt.NDArray[np.int64]),
    tuple[float, ...]: (np.float64, npt.NDArray[np.float64]),
}


def create(backend: Backend, plugin: Plugin, inputs: Sequence[Any]) -> Any:
    """Returns an ``IPluginV3`` for `plugin`; the engine will contain its kernel.

    Args:
        backend: a backend with plugins.
        inputs: the layer's ``ITensor`` inputs.
    """
    quick, trt = backend.quick_plugins(), backend.trt
    definition = _registered(quick, trt, type(plugin))
    values = {name: _stored(plugin.attributes.types[name], v) for name, v in plugin.values.items()}
    _, _, made = definition(*inputs, **values)(trt.QuickPluginCreationRequest.STRICT_AOT)
    return made


def _registered(quick: Any, trt: Any, kind: type[Plugin]) -> Any:
    """Returns TensorRT's constructor of such plugins; the first call registers it."""
    namespace, name = kind.name.split("::")
    if kind.version != "1":  # TensorRT knows quickly deployable plugins only as version 1
        name = f"{name}_v{kind.version}"
    space = getattr(quick.op, namespace, None)
    if not hasattr(space, name):
        functions = _PluginFunctions(quick, trt, kind)
        quick.register(f"{namespace}::{name}")(functions.describe())
        quick.aot_impl(f"{namespace}::{name}")(functions.implement())
    return getattr(getattr(quick.op, namespace), name)


class _PluginFunctions:
    """Makes the functions that ``tensorrt.plugin`` calls for one plugin.

    They look the plugin's class up at each call, so that a module loaded again replaces it.
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
        """Returns the function that gives types and shapes of the outputs."""

        def describe(*descs: Any, **values: Any) -> Any:
            plugin = self._plugin(values)
            entry = _format_of(plugin, descs)
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
        return _signed(located(self._key[0])(describe), [*self._inputs, *self._attributes], returns)

    def implement(self) -> Callable[..., Any]:
        """Returns the function that gives the compiled kernel, its launch and its scalars."""

        def implement(*arguments: Any) -> tuple[str, str, Any, Any]:
            count = len(self._inputs)
            descs, outputs = arguments[:count], arguments[-2]
            names = [parameter.name for parameter in self._attributes]
            plugin = self._plugin(dict(zip(names, arguments[count:-2], strict=True)))
            kernel = plugin.kernels[_format_of(plugin, descs)]
            assert isinstance(kernel, CompiledKernel)
            specs = self._specs(descs)
            specs += list(plugin.rule(specs))
            binary = kernel.compile(plugin, specs, capability())
            launch = kernel.launch(plugin, specs)
            made = self._quick.KernelLaunchParams()
            # CUDA refuses an empty grid; kernels write nothing outside their tensors.
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
        parameters = [*self._inputs, *self._attributes, *ends]
        return _signed(located(self._key[0])(implement), parameters, returns)

    def _plugin(self, values: dict[str, Any]) -> Plugin:
        kind = registry.find(*self._key)
        return kind(**{name: _plain(value) for name, value in values.items()})

    def _specs(self, descs: Sequence[Any]) -> list[TensorSpec]:
        """Returns the TensorSpecs of the inputs, with symbolic sizes where TensorRT knows none."""
        known = [
            TensorSpec(
                tuple(n.constant_value() if n.is_constant else -1 for n in desc.shape_expr),
                dtype_of(desc.dtype),
            )
            for desc in descs
        ]
        return list(with_symbolic_sizes(known))

    def _size(self, size: AnySize, descs: Sequence[Any]) -> Any:
        """Returns `size` as TensorRT's expression."""
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
    """Returns the compute capability, times ten, of this machine's GPU: engines are built for it.

    Raises:
        BackendError: there is no GPU.
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


def _format_of(plugin: Plugin, descs: Sequence[Any]) -> Format:
    """Returns the format whose inputs have the types of `descs`."""
    dtypes = tuple(dtype_of(desc.dtype) for desc in descs)
    for entry in plugin.kernels:
        if entry.inputs == dtypes:
            return entry
    raise UnsupportedError(
        "no kernel takes these types",
        expected="; ".join(map(str, plugin.kernels)),
        got=", ".join(dtype.value for dtype in dtypes),
    )


def _signed(
    function: Callable[..., Any], parameters: Sequence[inspect.Parameter], returns: Any
) -> Callable[..., Any]:
    """Gives `function` the signature that ``tensorrt.plugin`` reads."""
    signature = inspect.Signature(parameters, return_annotation=returns)
    vars(function)["__signature__"] = signature
    return function


def _annotation(kind: Any) -> Any:
    """Returns the annotation that ``tensorrt.plugin`` expects for the type of an attribute."""
    return _ROWS[kind][1] if kind in _ROWS else kind


def _tuple_of(*kinds: Any) -> Any:
    return types.GenericAlias(tuple, kinds)


def _stored(kind: Any, value: Any) -> Any:
    """Returns the value of an attribute as TensorRT stores it."""
    return np.array(value, _ROWS[kind][0]) if kind in _ROWS else value


def _plain(value: Any) -> Any:
    """Returns the value of an attribute from what TensorRT stores."""
    return tuple(value.tolist()) if isinstance(value, np.ndarray) else value

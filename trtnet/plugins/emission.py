"""Adds a plugin to a network: as one plugin layer, or as the layers of its native form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from trtnet.dtypes import DType, float32
from trtnet.errors import NetworkError, UnsupportedError, UsageError, located
from trtnet.graph.plugins import INPUT, INSIDE, OUTPUT, Mark
from trtnet.network import Network
from trtnet.plugins.declaration import Plugin
from trtnet.plugins.kernels import PythonKernel
from trtnet.plugins.spec import Format, TensorSpec, with_symbolic_sizes
from trtnet.plugins.symbolic_sizes import AnySize, evaluate
from trtnet.plugins.tensorrt import create
from trtnet.tensor import Dim, Tensor


def emit(plugin: Plugin, inputs: Sequence[Any]) -> Any:
    """Adds `plugin` to the network of `inputs` and returns its output, or a tuple of outputs.

    The inputs are cast to the types of one of the plugin's formats. Errors carry the module path.

    Raises:
        UsageError: another number of inputs, or inputs that are not Tensors.
        UnsupportedError: no format fits, or the network's backend cannot have the plugin.
    """
    tensors = [x for x in inputs if isinstance(x, Tensor)]
    path = tensors[0].network.path if tensors else ""
    with located(path or plugin.name):
        if not len(tensors) == len(inputs) == len(plugin.inputs):
            raise UsageError(
                f"{type(plugin).__name__} takes {len(plugin.inputs)} tensors",
                expected=", ".join(plugin.inputs),
                got=", ".join(type(x).__name__ for x in inputs),
            )
        network = cast(Network, tensors[0].network)  # an Emitter, and Network is the only one
        entry = choose_format(plugin, network, tensors)
        converted = [
            network.cast(tensor, dtype).emitted()
            for tensor, dtype in zip(tensors, entry.inputs, strict=True)
        ]
        if uses_native(plugin, entry, network):
            results = _emit_native(plugin, network, converted, entry)
        else:
            results = _emit_layer(plugin, network, converted, entry)
    return results[0] if len(results) == 1 else tuple(results)


def uses_native(plugin: Plugin, entry: Format, network: Network) -> bool:
    """Returns whether `plugin` is added to `network` by its native form.

    Args:
        entry: the format of the layer.

    Raises:
        UnsupportedError: the plugin or the backend lacks the form that the network asks for.
    """
    wanted, backend = network.plugins, network.backend.name
    has_kernel = plugin.kernels[entry] is not None
    stands_in = network.backend.description.writes_archive
    has_layer = stands_in or (network.backend.has("plugins") and has_kernel)
    if wanted == "kernel" and not has_layer:
        raise UnsupportedError(
            f"the backend {backend} has no plugins"
            if has_kernel
            else f"the plugin has no kernel for {entry}",
            got=f"{plugin.name} in a network with plugins={wanted!r}",
            fix='use the backend tensorrt or torch, or plugins="native"'
            if has_kernel
            else 'use plugins="native"',
        )
    if wanted == "native" or not has_layer:
        if plugin.native is None:
            raise UnsupportedError(
                f"{plugin.name} has no native form"
                + ("" if has_layer else f", and the backend {backend} has no plugins"),
                fix="declare native(self, *inputs) from TensorRT's layers, or use the backend "
                "tensorrt or torch",
            )
        return True
    return False


def choose_format(plugin: Plugin, network: Network, inputs: Sequence[Tensor]) -> Format:
    """Returns the format in which `plugin` takes `inputs`.

    That is, in this order, the format with exactly their types, the one in the type that the
    module computes in, and the first whose non-floating types are theirs. Where a pattern of the
    precision policy names the plugin's module, the type that the module computes in goes first.

    Raises:
        UnsupportedError: no format fits.
    """
    given = tuple(tensor.dtype for tensor in inputs)
    fitting = [entry for entry in plugin.kernels if entry.takes(given)]
    if not fitting:
        raise UnsupportedError(
            f"{plugin.name} does not take these types",
            expected="; ".join(map(str, plugin.kernels)),
            got=", ".join(dtype.value for dtype in given),
        )
    computed = network.compute_dtype
    exact = [entry for entry in fitting if entry.inputs == given]
    named = [entry for entry in fitting if _computes_in(entry, computed)]
    first = [*named, *exact] if network.casts.decide("").named else [*exact, *named]
    return [*first, *fitting][0]


def _computes_in(entry: Format, dtype: DType) -> bool:
    return all(kind is dtype for kind in entry.inputs if kind.is_floating_point)


def _emit_native(
    plugin: Plugin, network: Network, inputs: Sequence[Tensor], entry: Format
) -> list[Tensor]:
    """Adds the layers of the native form and returns its outputs in the types of `entry`."""
    assert plugin.native is not None
    returned = plugin.native(*inputs)
    results = list(returned) if isinstance(returned, tuple) else [returned]
    if len(results) != len(entry.outputs):
        raise NetworkError(
            f"the native form of {plugin.name} gives another number of outputs",
            expected=len(entry.outputs),
            got=len(results),
        )
    return [network.cast(x, dtype) for x, dtype in zip(results, entry.outputs, strict=True)]


def _emit_layer(
    plugin: Plugin, network: Network, inputs: Sequence[Tensor], entry: Format
) -> list[Tensor]:
    """Adds one plugin layer, or on the torch backend the layers that stand for it."""
    specs = with_symbolic_sizes([TensorSpec(_sizes(tensor), tensor.dtype) for tensor in inputs])
    ruled = plugin.rule(specs)
    dims = [tuple(_dim(size, inputs) for size in spec.shape) for spec in ruled]
    kernel = plugin.kernels[entry]
    embedded = kernel is not None and not isinstance(kernel, PythonKernel)
    mark = Mark(plugin.name, plugin.version, plugin.fields, embedded=embedded, count=len(ruled))
    op = plugin.name.partition("::")[2]
    if network.backend.description.writes_archive:
        mark = replace(mark, embedded=False, call=network.scopes.in_path(op))
        return _stand_in(network, op, mark, inputs, ruled, dims)
    created = create(network.backend, plugin, entry, [tensor.itensor for tensor in inputs])
    return network.emit_all(
        op, "add_plugin_v3", list(inputs), [], created, dims=dims, metadata=mark.text()
    )


def _stand_in(
    network: Network,
    op: str,
    mark: Mark,
    inputs: Sequence[Tensor],
    ruled: Sequence[TensorSpec],
    dims: Sequence[tuple[Any, ...]],
) -> list[Tensor]:
    """Adds layers that :mod:`trtnet.graph.plugins` reads back as one plugin layer."""
    for i, tensor in enumerate(inputs):
        text = replace(mark, role=INPUT, index=i).text()
        network.emit(f"{op}.input", "add_identity", tensor, metadata=text)
    random = network.trt.FillOperation.RANDOM_UNIFORM
    results = []
    for i, (spec, sizes) in enumerate(zip(ruled, dims, strict=True)):
        dynamic = any(isinstance(size, Dim) for size in sizes)
        fill = network.emit(
            f"{op}.shape",
            "add_fill",
            (1,) * len(sizes) if dynamic else sizes,
            random,
            float32.of(network.trt),
            dims=sizes,
            inputs={0: network.sizes(sizes)} if dynamic else None,
            metadata=replace(mark, role=INSIDE).text(),
        )
        cast = network.emit(
            f"{op}.output",
            "add_cast",
            fill,
            spec.dtype.of(network.trt),
            dims=sizes,
            metadata=replace(mark, role=OUTPUT, index=i).text(),
        )
        results.append(cast)
    return results


def _sizes(tensor: Tensor) -> tuple[int, ...]:
    """Returns the shape of `tensor`, with -1 for sizes known only at run time."""
    return tuple(size if isinstance(size, int) else -1 for size in tensor.shape)


def _dim(size: AnySize, inputs: Sequence[Tensor]) -> Any:
    """Returns a size of a shape rule as an int or a Dim."""
    return evaluate(size, lambda i, axis: inputs[i].shape[axis], _compute)


def _compute(operation: str, left: Any, right: Any) -> Any:
    """Computes one of the OPERATIONS of :mod:`trtnet.plugins.symbolic_sizes` on Dims and ints."""
    if operation == "CEIL_DIV":
        return (left + (right - 1)) // right
    if operation in ("MIN", "MAX"):
        first, second = (left, right) if isinstance(left, Dim) else (right, left)
        if not isinstance(first, Dim):
            return min(left, right) if operation == "MIN" else max(left, right)
        return first.minimum(second) if operation == "MIN" else first.maximum(second)
    compute = {
        "SUM": lambda: left + right,
        "SUB": lambda: left - right,
        "PROD": lambda: left * right,
        "FLOOR_DIV": lambda: left // right,
    }
    return compute[operation]()

"""Puts a plugin into a network: as a layer of its own, or as what its native form is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from trtnet.dtypes import DType, float32
from trtnet.errors import NetworkError, UnsupportedError, UsageError
from trtnet.graph.plugins import INPUT, INSIDE, OUTPUT, Mark
from trtnet.plugins.kernels import PythonKernel
from trtnet.plugins.sizes import evaluate
from trtnet.plugins.spec import Format, TensorSpec, numbered
from trtnet.tensor import Dim, Tensor

if TYPE_CHECKING:
    from trtnet.network import Network
    from trtnet.plugins.declaration import Plugin


def emit(plugin: Plugin, inputs: Sequence[Any]) -> Any:
    """The plugin's outputs for `inputs`, brought to the types of one of its formats.

    Raises:
        UsageError: another number of inputs.
        UnsupportedError: no format fits, or the network's backend cannot have the plugin.
    """
    if len(inputs) != len(plugin.inputs) or not all(isinstance(x, Tensor) for x in inputs):
        raise UsageError(
            f"{type(plugin).__name__} takes {len(plugin.inputs)} tensors",
            module=plugin.name,
            expected=", ".join(plugin.inputs),
            got=", ".join(type(x).__name__ for x in inputs),
        )
    network = inputs[0].network
    entry = choose_format(plugin, network, inputs)
    tensors = [
        network.cast(tensor, dtype).emitted()
        for tensor, dtype in zip(inputs, entry.inputs, strict=True)
    ]
    if uses_native(plugin, entry, network):
        results = _native(plugin, network, tensors, entry)
    else:
        results = _layer(plugin, network, tensors, entry)
    return results[0] if len(results) == 1 else tuple(results)


def uses_native(plugin: Plugin, entry: Format, network: Network) -> bool:
    """Whether `plugin` becomes TensorRT's own layers in `network`.

    Raises:
        UnsupportedError: it cannot become what was asked for.
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
            module=network.path or plugin.name,
            fix='use the backend tensorrt or torch, or plugins="native"'
            if has_kernel
            else 'use plugins="native"',
        )
    if wanted == "native" or not has_layer:
        if plugin.native is None:
            raise UnsupportedError(
                f"{plugin.name} has no native form"
                + ("" if has_layer else f", and the backend {backend} has no plugins"),
                module=network.path or None,
                fix="declare native(self, *inputs) from TensorRT's layers, or use the backend "
                "tensorrt or torch",
            )
        return True
    return False


def choose_format(plugin: Plugin, network: Network, inputs: Sequence[Tensor]) -> Format:
    """The format in which `plugin` takes `inputs`: the one with their types; or, where there is
    none and where the policy names the plugin's module, the one in the type that the module
    computes in, or any other whose integers are theirs."""
    given = tuple(tensor.dtype for tensor in inputs)
    fitting = [entry for entry in plugin.kernels if _fits(entry, given)]
    if not fitting:
        raise UnsupportedError(
            f"{plugin.name} does not take these types",
            module=network.path or None,
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


def _fits(entry: Format, given: Sequence[DType]) -> bool:
    """Whether only floating types differ."""
    return all(
        a is b or (a.is_floating_point and b.is_floating_point)
        for a, b in zip(entry.inputs, given, strict=True)
    )


def _native(
    plugin: Plugin, network: Network, inputs: Sequence[Tensor], entry: Format
) -> list[Tensor]:
    assert plugin.native is not None
    made = plugin.native(*inputs)
    results = list(made) if isinstance(made, tuple) else [made]
    if len(results) != len(entry.outputs):
        raise NetworkError(
            "the native form gives another number of outputs",
            module=network.path or plugin.name,
            expected=len(entry.outputs),
            got=len(results),
        )
    return [network.cast(x, dtype) for x, dtype in zip(results, entry.outputs, strict=True)]


def _layer(
    plugin: Plugin, network: Network, inputs: Sequence[Tensor], entry: Format
) -> list[Tensor]:
    specs = numbered([TensorSpec(_sizes(tensor), tensor.dtype) for tensor in inputs])
    ruled = plugin.rule(specs)
    dims = [tuple(_dim(size, inputs) for size in spec.shape) for spec in ruled]
    kernel = plugin.kernels[entry]
    embedded = kernel is not None and not isinstance(kernel, PythonKernel)
    mark = Mark(plugin.name, plugin.version, plugin.fields, embedded=embedded, count=len(ruled))
    op = plugin.name.partition("::")[2]
    if network.backend.description.writes_archive:
        mark = replace(mark, embedded=False, call=network.scopes.in_path(op))
        return _stand_in(network, op, mark, inputs, ruled, dims)
    from trtnet.plugins.tensorrt import create

    made = create(network.backend, plugin, entry, [tensor.itensor for tensor in inputs])
    return network.emit_all(
        op, "add_plugin_v3", list(inputs), [], made, dims=dims, metadata=mark.text()
    )


def _stand_in(
    network: Network,
    op: str,
    mark: Mark,
    inputs: Sequence[Tensor],
    ruled: Sequence[TensorSpec],
    dims: Sequence[tuple[Any, ...]],
) -> list[Tensor]:
    """Layers that the reader takes for the plugin's; see :mod:`trtnet.graph.plugins`."""
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
    return tuple(size if isinstance(size, int) else -1 for size in tensor.shape)


def _dim(size: Any, inputs: Sequence[Tensor]) -> Any:
    """`size` of a shape rule, as the network knows it."""
    return evaluate(size, lambda i, axis: inputs[i].shape[axis], _compute)


def _compute(operation: str, left: Any, right: Any) -> Any:
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

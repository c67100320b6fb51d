"""Runs the kernels of plugins on PyTorch tensors of a CUDA device, without TensorRT."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trtnet import cuda
from trtnet.errors import ShapeError, UnsupportedError
from trtnet.plugins.aot_compile import ALIGNMENT, PtxKernel
from trtnet.plugins.declaration import Plugin
from trtnet.plugins.kernels import Kernel, PythonKernel
from trtnet.plugins.reference_execution import reference, spec_of, torch_dtype
from trtnet.plugins.registry import instance, restore
from trtnet.plugins.spec import TensorSpec

_LARGEST = 2**31 - 1  # largest scalar, and largest size of a grid


def kernel_of(plugin: Plugin, specs: Sequence[TensorSpec]) -> tuple[Kernel, list[TensorSpec]]:
    """Returns the kernel for inputs like `specs`, and the TensorSpecs of its outputs.

    Raises:
        UnsupportedError: no format with these types has a kernel.
    """
    dtypes = tuple(spec.dtype for spec in specs)
    for entry, kernel in plugin.kernels.items():
        if entry.inputs == dtypes and kernel is not None:
            return kernel, list(plugin.rule(specs))
    raise UnsupportedError(
        "no kernel takes these types",
        module=plugin.name,
        expected="; ".join(map(str, plugin.kernels)),
        got=", ".join(dtype.value for dtype in dtypes),
    )


def run_kernel(
    plugin: Plugin, inputs: Sequence[Tensor], outputs: Sequence[Tensor] | None = None
) -> tuple[Tensor, ...]:
    """Runs the plugin's kernel on PyTorch's current stream and returns its outputs.

    Args:
        inputs: tensors on one CUDA device; strided or misaligned ones are copied first.
        outputs: contiguous tensors to write to; ``None`` allocates them.

    Raises:
        UnsupportedError: no kernel takes these types.
        BuildError: the kernel does not compile.
        ShapeError: a scalar does not fit into 32 bits.
        CudaError: the kernel cannot be loaded or launched.
    """
    specs = [spec_of(tensor) for tensor in inputs]
    kernel, ruled = kernel_of(plugin, specs)
    dense = _dense if isinstance(kernel, PythonKernel) else Tensor.contiguous
    inputs = [_aligned(dense(tensor)) for tensor in inputs]
    if outputs is None:
        outputs = [
            torch.empty(spec.fixed_shape, dtype=torch_dtype(spec.dtype), device=inputs[0].device)
            for spec in ruled
        ]
    with torch.cuda.device_of(inputs[0]):
        if isinstance(kernel, PythonKernel):
            kernel.function(plugin, *inputs, *outputs)
            return tuple(outputs)
        everything = [*specs, *ruled]
        shape = kernel.launch(plugin, everything)
        if all(shape.grid):
            device = inputs[0].device.index or 0
            kind: Any = type(plugin)  # mypy takes no class for hashable
            function, compiled = _loaded(kind, plugin.fields, tuple(everything), device)
            grid, scalars = tuple(map(int, shape.grid)), tuple(map(int, shape.scalars))
            launch(function, compiled, grid, inputs, scalars, outputs)
    return tuple(outputs)


def _dense(tensor: Tensor) -> Tensor:
    """Returns `tensor`, or a contiguous copy if it is neither contiguous nor channels_last."""
    is_channels_last = tensor.is_contiguous(memory_format=torch.channels_last)
    return tensor if is_channels_last else tensor.contiguous()


def _aligned(tensor: Tensor) -> Tensor:
    """Returns `tensor`, or a copy if its memory is misaligned, as that of a slice may be."""
    return tensor.clone() if tensor.data_ptr() % ALIGNMENT else tensor


def execute_plugin(
    name: str, version: str, fields: str, dtypes: tuple[torch.dtype, ...], *inputs: Tensor
) -> Any:
    """Executes a plugin layer by its kernel, or by its reference where there is no kernel for it.

    The kernel runs where all inputs are on a CUDA device and a format with their types has one.
    Arguments and result are those of :func:`trtnet.plugins.reference_execution.reference`.
    """
    plugin = instance(name, version, fields)
    if not all(tensor.is_cuda for tensor in inputs) or not has_kernel(plugin, inputs):
        return reference(name, version, fields, dtypes, *inputs)
    results = run_kernel(plugin, inputs)
    return results[0] if len(results) == 1 else results


def has_kernel(plugin: Plugin, inputs: Sequence[Tensor]) -> bool:
    """Returns whether the plugin has a kernel for the types of `inputs`."""
    dtypes = tuple(spec_of(tensor).dtype for tensor in inputs)
    return any(entry.inputs == dtypes for entry, kernel in plugin.kernels.items() if kernel)


@functools.lru_cache(1024)
def _loaded(
    kind: type[Plugin], fields: str, specs: tuple[TensorSpec, ...], device: int
) -> tuple[Any, PtxKernel]:
    """Returns the loaded function, and the compiled kernel, of a plugin for the GPU `device`."""
    plugin = restore(kind, fields)
    kernel, _ = kernel_of(plugin, specs[: len(plugin.inputs)])
    assert not isinstance(kernel, PythonKernel)
    major, minor = torch.cuda.get_device_capability(device)
    compiled = kernel.compile(plugin, specs, 10 * major + minor)
    return load(compiled, device), compiled


@functools.lru_cache(256)
def load(compiled: PtxKernel, device: int) -> Any:
    """Loads a kernel for a GPU; it stays loaded until the process ends.

    Args:
        device: index of the GPU.

    Returns:
        A ``CUfunction``, for :func:`launch`.
    """
    ptx = compiled.ptx.encode() + b"\0"
    library = cuda.call_driver("cuLibraryLoadData", ptx, [], [], 0, [], [], 0)
    kernel = cuda.call_driver("cuLibraryGetKernel", library, compiled.name.encode())
    if compiled.shared > 48 << 10:
        attribute = (
            cuda.driver().CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        )
        gpu = cuda.call_driver("cuDeviceGet", device)
        cuda.call_driver("cuKernelSetAttribute", attribute, compiled.shared, kernel, gpu)
    return cuda.driver().CUfunction(int(kernel))


def launch(
    function: Any,
    compiled: PtxKernel,
    grid: Sequence[int],
    inputs: Sequence[Tensor],
    scalars: Sequence[int],
    outputs: Sequence[Tensor],
    early: bool = False,
) -> None:
    """Enqueues a kernel on PyTorch's current stream.

    The kernel gets pointers to the inputs, the scalars, and pointers to the outputs.

    Args:
        function: what :func:`load` returned for `compiled`.
        grid: three sizes.
        scalars: passed as 32-bit integers.
        early: allows the kernel to start before the previous kernel ends; it must then wait for
            that one by itself (from Hopper on; PTX: ``griddepcontrol``).

    Raises:
        ShapeError: a scalar, or a size of the grid, does not fit into 32 bits.
        CudaError: the launch failed.
    """
    if max(*scalars, *grid, 0) > _LARGEST:
        raise ShapeError("a kernel's scalars have 32 bits", got=max(*scalars, *grid))
    values: list[np.ndarray] = [
        *(np.array([tensor.data_ptr()], np.uint64) for tensor in inputs),
        *(np.array([scalar], np.int32) for scalar in scalars),
        *(np.array([tensor.data_ptr()], np.uint64) for tensor in outputs),
    ]
    pointers = np.array([value.ctypes.data for value in values], np.uint64)
    stream = torch.cuda.current_stream(inputs[0].device).cuda_stream
    block = (compiled.threads, 1, 1)
    if not early:
        shape = (*grid, *block, compiled.shared, stream)
        cuda.call_driver("cuLaunchKernel", function, *shape, pointers.ctypes.data, 0)
        return
    config, attribute = cuda.driver().CUlaunchConfig(), cuda.driver().CUlaunchAttribute()
    config.gridDimX, config.gridDimY, config.gridDimZ = grid
    config.blockDimX, config.blockDimY, config.blockDimZ = block
    config.sharedMemBytes, config.hStream = compiled.shared, stream
    kinds = cuda.driver().CUlaunchAttributeID
    attribute.id = kinds.CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION
    attribute.value.programmaticStreamSerializationAllowed = 1
    config.attrs, config.numAttrs = [attribute], 1
    cuda.call_driver("cuLaunchKernelEx", config, function, pointers.ctypes.data, 0)

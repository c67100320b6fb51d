"""Runs a plugin's kernel on PyTorch tensors of a CUDA device, without TensorRT."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from trtnet import cuda
from trtnet.errors import ShapeError, UnsupportedError
from trtnet.plugins.ahead import ALIGNMENT, Binary
from trtnet.plugins.kernels import Kernel, PythonKernel
from trtnet.plugins.registry import instance
from trtnet.plugins.running import reference, spec_of, torch_dtype
from trtnet.plugins.spec import TensorSpec

if TYPE_CHECKING:
    from trtnet.plugins.declaration import Plugin

_LARGEST = 2**31 - 1  # of a scalar, and of a grid's first size


def kernel_of(plugin: Plugin, specs: Sequence[TensorSpec]) -> tuple[Kernel, list[TensorSpec]]:
    """The kernel for inputs like `specs`, and its outputs.

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


def run(
    plugin: Plugin, inputs: Sequence[Tensor], outputs: Sequence[Tensor] | None = None
) -> tuple[Tensor, ...]:
    """What the plugin's kernel gives for `inputs`, on PyTorch's current stream.

    Args:
        outputs: contiguous tensors to write to; new ones if None.

    Raises:
        UnsupportedError: no kernel takes these types.
        BuildError: the kernel does not compile.
        CudaError: the kernel cannot be loaded or launched.
    """
    specs = [spec_of(tensor) for tensor in inputs]
    kernel, ruled = kernel_of(plugin, specs)
    dense = _dense if isinstance(kernel, PythonKernel) else Tensor.contiguous
    inputs = [_aligned(dense(tensor)) for tensor in inputs]
    if outputs is None:
        outputs = [
            torch.empty(spec.shape, dtype=torch_dtype(spec.dtype), device=inputs[0].device)
            for spec in ruled
        ]
    with torch.cuda.device_of(inputs[0]):  # of several GPUs, that of the tensors
        if isinstance(kernel, PythonKernel):
            kernel.function(plugin, *inputs, *outputs)
            return tuple(outputs)
        everything = [*specs, *ruled]
        shape = kernel.launch(plugin, everything)
        if all(shape.grid):
            kind: Any = type(plugin)
            device = inputs[0].device.index or 0
            function, binary = _loaded(kind, plugin.fields, tuple(everything), device)
            launch(function, binary, shape.grid, inputs, shape.scalars, outputs)
    return tuple(outputs)


def _dense(tensor: Tensor) -> Tensor:
    """`tensor`, contiguous unless it is channels_last, as convolutions leave it."""
    last = tensor.is_contiguous(memory_format=torch.channels_last)
    return tensor if last else tensor.contiguous()


def _aligned(tensor: Tensor) -> Tensor:
    """`tensor`, or a copy where its memory starts at an odd place, as that of a slice may."""
    return tensor.clone() if tensor.data_ptr() % ALIGNMENT else tensor


def execute(
    name: str, version: str, fields: str, dtypes: tuple[torch.dtype, ...], *inputs: Tensor
) -> Any:
    """As :func:`trtnet.plugins.running.reference`, by the plugin's kernel where the inputs are on
    a CUDA device and one takes their types."""
    plugin = instance(name, version, fields)
    if not all(tensor.is_cuda for tensor in inputs) or not has_kernel(plugin, inputs):
        return reference(name, version, fields, dtypes, *inputs)
    results = run(plugin, inputs)
    return results[0] if len(results) == 1 else results


def has_kernel(plugin: Plugin, inputs: Sequence[Tensor]) -> bool:
    """Whether a kernel takes the types of `inputs`."""
    dtypes = tuple(spec_of(tensor).dtype for tensor in inputs)
    return any(entry.inputs == dtypes for entry, kernel in plugin.kernels.items() if kernel)


@functools.lru_cache(1024)
def _loaded(
    kind: Any, fields: str, specs: tuple[TensorSpec, ...], device: int
) -> tuple[Any, Binary]:
    """The kernel of the plugin `kind` on the GPU of that index; PyTorch's context is used."""
    plugin = kind(**json.loads(fields))
    kernel, _ = kernel_of(plugin, specs[: len(plugin.inputs)])
    assert not isinstance(kernel, PythonKernel)
    major, minor = torch.cuda.get_device_capability(device)
    binary = kernel.compile(plugin, specs, 10 * major + minor)
    return load(binary, device), binary


@functools.lru_cache(256)
def load(binary: Binary, device: int) -> Any:
    """`binary` as a function of CUDA for the GPU of that index; it stays loaded as long as the
    process lives."""
    ptx = binary.ptx.encode() + b"\0"
    library = cuda.call_driver("cuLibraryLoadData", ptx, [], [], 0, [], [], 0)
    kernel = cuda.call_driver("cuLibraryGetKernel", library, binary.name.encode())
    if binary.shared > 48 << 10:
        attribute = (
            cuda.driver().CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        )
        gpu = cuda.call_driver("cuDeviceGet", device)
        cuda.call_driver("cuKernelSetAttribute", attribute, binary.shared, kernel, gpu)
    return cuda.driver().CUfunction(int(kernel))


def launch(
    function: Any,
    binary: Binary,
    grid: Sequence[int],
    inputs: Sequence[Tensor],
    scalars: Sequence[int],
    outputs: Sequence[Tensor],
    early: bool = False,
) -> None:
    """Enqueues what :func:`load` gave for `binary` on PyTorch's current stream; the arguments are
    pointers to the inputs, 32-bit integers, and pointers to the outputs.

    Args:
        early: whether it may begin before the kernel before it has ended, for which it then waits
            itself (from Hopper on; PTX: ``griddepcontrol``).

    Raises:
        ShapeError: a scalar that has no 32 bits.
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
    block = (binary.threads, 1, 1)
    if not early:
        shape = (*grid, *block, binary.shared, stream)
        cuda.call_driver("cuLaunchKernel", function, *shape, pointers.ctypes.data, 0)
        return
    config, attribute = cuda.driver().CUlaunchConfig(), cuda.driver().CUlaunchAttribute()
    config.gridDimX, config.gridDimY, config.gridDimZ = grid
    config.blockDimX, config.blockDimY, config.blockDimZ = block
    config.sharedMemBytes, config.hStream = binary.shared, stream
    kinds = cuda.driver().CUlaunchAttributeID
    attribute.id = kinds.CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION
    attribute.value.programmaticStreamSerializationAllowed = 1
    config.attrs, config.numAttrs = [attribute], 1
    cuda.call_driver("cuLaunchKernelEx", config, function, pointers.ctypes.data, 0)

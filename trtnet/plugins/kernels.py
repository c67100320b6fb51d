"""How a plugin names the kernel that computes it on a GPU."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from trtnet.dtypes import DType
from trtnet.errors import ShapeError, UsageError
from trtnet.plugins import ahead
from trtnet.plugins.spec import TensorSpec

if TYPE_CHECKING:
    from trtnet.plugins.declaration import Plugin

_TRITON = {
    DType.FLOAT32: "*fp32",
    DType.FLOAT16: "*fp16",
    DType.BFLOAT16: "*bf16",
    DType.INT64: "*i64",
    DType.INT32: "*i32",
    DType.INT8: "*i8",
    DType.UINT8: "*u8",
    DType.BOOL: "*i1",
}
_CUDA = {
    DType.FLOAT32: "float",
    DType.FLOAT16: "__half",
    DType.BFLOAT16: "__nv_bfloat16",
    DType.INT64: "long long",
    DType.INT32: "int",
    DType.INT8: "signed char",
    DType.UINT8: "unsigned char",
    DType.BOOL: "bool",
}
_HEADERS = {DType.FLOAT16: "cuda_fp16.h", DType.BFLOAT16: "cuda_bf16.h"}

# A function of the plugin and the specs of all inputs, then all outputs.
Sizes = Callable[..., Sequence[Any]]


class Launch(NamedTuple):
    """What one launch takes besides the tensors: ints, or sizes known only at run time."""

    grid: tuple[Any, Any, Any]
    scalars: tuple[Any, ...]


@dataclass(frozen=True)
class CompiledKernel:
    """A kernel that is compiled ahead of time, to PTX.

    Its arguments are the inputs, then `scalars` (32-bit integers), then the outputs; tensors are
    contiguous. That is the order in which TensorRT passes them.
    """

    grid: Sizes
    scalars: Sizes | None = field(default=None, kw_only=True)
    constants: Mapping[str, Any] | Callable[..., Mapping[str, Any]] = field(
        default_factory=dict, kw_only=True
    )

    def launch(self, plugin: Plugin, specs: Sequence[TensorSpec]) -> Launch:
        """The grid, and the scalars, for tensors like `specs`."""
        grid = tuple(self.grid(plugin, *specs))
        scalars = tuple(self.scalars(plugin, *specs)) if self.scalars is not None else ()
        if not 1 <= len(grid) <= 3:
            raise UsageError("a grid has one to three sizes", module=plugin.name, got=grid)
        return Launch((*grid, *(1,) * (3 - len(grid))), scalars)  # type: ignore[arg-type]

    def _constants(self, plugin: Plugin, specs: Sequence[TensorSpec]) -> dict[str, Any]:
        """The attributes, and what `constants` says."""
        stated = self.constants
        given = stated if isinstance(stated, Mapping) else stated(plugin, *specs)
        for name, value in given.items():
            if not isinstance(value, (bool, int, float, str, tuple)):
                raise ShapeError(
                    f"the kernel's constant {name} is not known when it is compiled",
                    module=plugin.name,
                    got=value,
                    fix="give the network's axis a fixed size",
                )
        return {**plugin.values, **given}

    def _scalar_count(self, plugin: Plugin, specs: Sequence[TensorSpec]) -> int:
        return len(self.launch(plugin, specs).scalars)


@dataclass(frozen=True)
class TritonKernel(CompiledKernel):
    """See :func:`triton_kernel`."""

    function: Any = field(kw_only=True)
    warps: int = field(default=4, kw_only=True)
    stages: int = field(default=3, kw_only=True)
    registers: int | None = field(default=None, kw_only=True)

    def compile(self, plugin: Plugin, specs: Sequence[TensorSpec], capability: int) -> ahead.Binary:
        """PTX for tensors like `specs` (inputs, then outputs) on GPUs of `capability`."""
        function, constants = self._bound(plugin, specs)
        names = list(function.arg_names)
        pointers = [_TRITON[spec.dtype] for spec in specs]
        inputs = len(plugin.inputs)
        scalars = ["i32"] * self._scalar_count(plugin, specs)
        kinds = [*pointers[:inputs], *scalars, *pointers[inputs:]]
        passed = [name for name in names if name not in constants]
        if len(passed) != len(kinds):
            raise UsageError(
                "the Triton kernel's arguments are not the inputs, the scalars, the outputs and "
                "the constants",
                module=plugin.name,
                expected=f"{len(kinds)} arguments besides constants {', '.join(constants)}",
                got=", ".join(passed),
            )
        signature = dict.fromkeys(names, "constexpr") | dict(zip(passed, kinds, strict=True))
        shape = (self.warps, self.stages)
        return ahead.compile_triton(
            function, signature, constants, shape, capability, plugin.name, self.registers
        )

    def interpret(
        self, plugin: Plugin, specs: Sequence[TensorSpec], tensors: Sequence[Any]
    ) -> None:
        """Runs it on PyTorch tensors in the host's memory, the inputs and then the outputs, in a
        process that was started with ``TRITON_INTERPRET=1``."""
        function, constants = self._bound(plugin, specs)
        launch, count = self.launch(plugin, specs), len(plugin.inputs)
        if all(launch.grid):
            inputs, outputs = tensors[:count], tensors[count:]
            function[launch.grid](*inputs, *launch.scalars, *outputs, **constants)

    def _bound(self, plugin: Plugin, specs: Sequence[TensorSpec]) -> tuple[Any, dict[str, Any]]:
        """The function, and the constants that it takes."""
        function = self._function()
        constants = self._constants(plugin, specs).items()
        return function, {name: v for name, v in constants if name in function.arg_names}

    def _function(self) -> Any:
        if not isinstance(self.function, str):
            return self.function
        module, _, name = self.function.partition(":")
        return getattr(importlib.import_module(module), name)


@dataclass(frozen=True)
class CudaKernel(CompiledKernel):
    """See :func:`cuda_kernel`."""

    source: str = field(kw_only=True)
    entry: str = field(kw_only=True)
    threads: int = field(default=256, kw_only=True)
    shared: int = field(default=0, kw_only=True)
    file: str = field(default="kernel.cu", kw_only=True)

    def compile(self, plugin: Plugin, specs: Sequence[TensorSpec], capability: int) -> ahead.Binary:
        """PTX for tensors like `specs` (inputs, then outputs) on GPUs of `capability`."""
        names = [*plugin.inputs, *_output_names(len(specs) - len(plugin.inputs))]
        headers = sorted({_HEADERS[spec.dtype] for spec in specs if spec.dtype in _HEADERS})
        preamble = [
            *(f"#include <{name}>" for name in headers),
            *(f"using {n}_t = {_CUDA[s.dtype]};" for n, s in zip(names, specs, strict=True)),
            *(_constant(name, value) for name, value in self._constants(plugin, specs).items()),
            f'#line 1 "{self.file}"',
        ]
        source = "\n".join([*preamble, self.source])
        return ahead.compile_cuda(
            source, self.entry, (self.threads, self.shared), capability, plugin.name
        )


@dataclass(frozen=True)
class PythonKernel:
    """A function that fills PyTorch tensors on a GPU: for what takes several launches, or memory
    to work in. Inputs are contiguous, or channels_last where PyTorch has them so; outputs are
    contiguous. An engine with it needs Python where it runs."""

    function: Callable[..., None]


Kernel = TritonKernel | CudaKernel | PythonKernel


def triton_kernel(
    function: Any,
    *,
    grid: Sizes,
    scalars: Sizes | None = None,
    constants: Mapping[str, Any] | Callable[..., Mapping[str, Any]] | None = None,
    warps: int = 4,
    stages: int = 3,
    registers: int | None = None,
) -> TritonKernel:
    """A kernel in Triton.

    Args:
        function: decorated with ``@triton.jit``, or where it is: ``"module:function"``. Its
            arguments are the inputs, the scalars, the outputs, and constants; a constant called
            like an attribute of the plugin gets its value.
        grid: ``grid(plugin, *inputs, *outputs)``, on TensorSpecs, gives one to three sizes.
        scalars: gives integers that the kernel takes, in the same way.
        constants: values of other constants; a mapping, or a function as `grid` is.
        warps, stages: Triton's ``num_warps`` and ``num_stages``.
        registers: the most that a thread may have, Triton's ``maxnreg``.
    """
    return TritonKernel(
        grid,
        function=function,
        scalars=scalars,
        constants=constants or {},
        warps=warps,
        stages=stages,
        registers=registers,
    )


def cuda_kernel(
    source: str,
    entry: str,
    *,
    grid: Sizes,
    scalars: Sizes | None = None,
    constants: Mapping[str, Any] | Callable[..., Mapping[str, Any]] | None = None,
    threads: int = 256,
    shared: int = 0,
) -> CudaKernel:
    """A kernel in CUDA C++, compiled by NVRTC.

    The source sees the type of each tensor as ``x_t`` for an input ``x``, and ``output_t`` (of
    several outputs ``output0_t``, ``output1_t``); attributes and constants have their names. A
    driver reads the PTX of an NVRTC that is not newer than itself.

    Args:
        source: C++, or the name of a file beside the one that declares the plugin.
        entry: name of the kernel, which is ``extern "C" __global__``. Its arguments are pointers
            to the inputs, scalars of type ``int``, and pointers to the outputs.
        grid, scalars, constants: as for :func:`triton_kernel`.
        threads: of a block.
        shared: bytes of dynamic shared memory.
    """
    return CudaKernel(
        grid,
        source=source,
        entry=entry,
        scalars=scalars,
        constants=constants or {},
        threads=threads,
        shared=shared,
    )


def as_kernel(stated: Any, plugin: str, module: str) -> Kernel | None:
    """What a declaration gives as a kernel.

    Raises:
        UsageError: something that is none, or a source file that cannot be read.
    """
    if isinstance(stated, CudaKernel) and "\n" not in stated.source:
        home = getattr(sys.modules.get(module), "__file__", None) or "."
        path = Path(home).parent / stated.source
        try:
            return replace(stated, source=path.read_text(), file=str(path))
        except OSError as error:
            raise UsageError("the kernel's source cannot be read", module=plugin, got=error) from (
                error
            )
    if stated is None or isinstance(stated, (TritonKernel, CudaKernel, PythonKernel)):
        return stated
    if callable(stated):
        return PythonKernel(stated)
    raise UsageError(
        "this is no kernel",
        module=plugin,
        expected="triton_kernel(...), cuda_kernel(...) or a function",
        got=repr(stated),
    )


def _output_names(count: int) -> list[str]:
    return ["output"] if count == 1 else [f"output{i}" for i in range(count)]


def _constant(name: str, value: Any) -> str:
    """`value` as C++."""
    if isinstance(value, tuple):
        kind = "float" if any(isinstance(item, float) for item in value) else "int"
        items = ", ".join(_literal(item, kind) for item in value)
        return f"__device__ constexpr {kind} {name}[{max(len(value), 1)}] = {{{items}}};"
    if isinstance(value, str):
        return f'#define {name} "{value}"'
    kind = {bool: "bool", int: "long long", float: "float"}[type(value)]
    return f"constexpr {kind} {name} = {_literal(value, kind)};"


def _literal(value: Any, kind: str) -> str:
    if kind == "bool":
        return str(value).lower()
    return f"{float(value)!r}f" if kind == "float" else str(value)

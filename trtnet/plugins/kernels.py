"""The kernels a plugin can have: in Triton, in CUDA C++, or a Python function."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from trtnet.dtypes import DType
from trtnet.errors import ShapeError, UsageError, located
from trtnet.plugins.aot_compile import PtxKernel, compile_cuda, compile_triton
from trtnet.plugins.spec import TensorSpec
from trtnet.plugins.symbolic_sizes import AnySize

# The names of element types in Triton's signatures, and in CUDA C++.
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

# ``sizes(plugin, *inputs, *outputs)``, with a TensorSpec for each tensor.
SizeFunction = Callable[..., Sequence[AnySize]]
Constants = Mapping[str, Any] | Callable[..., Mapping[str, Any]]


class KernelOwner(Protocol):
    """What a kernel reads of the plugin that it belongs to."""

    @property
    def name(self) -> str:
        """The plugin's name, ``"namespace::name"``."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs."""

    @property
    def values(self) -> dict[str, Any]:
        """The attributes by name; they are constants of the kernel."""


class LaunchArguments(NamedTuple):
    """What one launch takes besides the tensors: ints, or sizes known only at run time."""

    grid: tuple[AnySize, AnySize, AnySize]
    scalars: tuple[AnySize, ...]


@dataclass(frozen=True)
class CompiledKernel:
    """Base of the kernels that are compiled ahead of time, to PTX.

    The kernel's arguments are pointers to the inputs, then `scalars` (32-bit integers), then
    pointers to the outputs: TensorRT's order. All tensors are contiguous.

    Attributes:
        grid: gives one to three sizes of the grid.
        scalars: gives the scalars; ``None`` where there are none.
        constants: constants by name, besides the plugin's attributes, or a function that gives
            them.
    """

    grid: SizeFunction
    scalars: SizeFunction | None = field(default=None, kw_only=True)
    constants: Constants = field(default_factory=dict, kw_only=True)

    def launch(self, plugin: KernelOwner, specs: Sequence[TensorSpec]) -> LaunchArguments:
        """Returns grid and scalars for tensors like `specs`.

        Args:
            specs: of the inputs, then of the outputs.

        Raises:
            UsageError: the grid does not have one to three sizes.
        """
        grid = tuple(self.grid(plugin, *specs))
        scalars = tuple(self.scalars(plugin, *specs)) if self.scalars is not None else ()
        if not 1 <= len(grid) <= 3:
            raise UsageError("a grid has one to three sizes", module=plugin.name, got=grid)
        x, y, z = [*grid, 1, 1][:3]
        return LaunchArguments((x, y, z), scalars)

    def compile(
        self, plugin: KernelOwner, specs: Sequence[TensorSpec], capability: int
    ) -> PtxKernel:
        """Compiles the kernel for tensors like `specs`.

        Args:
            specs: of the inputs, then of the outputs.
            capability: compute capability of the GPUs, times ten.

        Raises:
            BuildError: the kernel does not compile.
            BackendError: its compiler is not installed.
            UsageError: the kernel's arguments do not fit the declaration.
            ShapeError: a constant that is known only at run time.
        """
        with located(plugin.name):
            return self._compile(plugin, specs, capability)

    def _compile(
        self, plugin: KernelOwner, specs: Sequence[TensorSpec], capability: int
    ) -> PtxKernel:
        raise NotImplementedError

    def _constants(self, plugin: KernelOwner, specs: Sequence[TensorSpec]) -> dict[str, Any]:
        """Returns the attributes and the declared constants, by name."""
        declared = self.constants
        given = declared if isinstance(declared, Mapping) else declared(plugin, *specs)
        for name, value in given.items():
            if not isinstance(value, (bool, int, float, str, tuple)):
                raise ShapeError(
                    f"the kernel's constant {name} is not known when it is compiled",
                    got=value,
                    fix="give the network's axis a fixed size",
                )
        return {**plugin.values, **given}


@dataclass(frozen=True)
class TritonKernel(CompiledKernel):
    """A kernel in Triton; :func:`triton_kernel` makes one and describes its arguments."""

    function: Any = field(kw_only=True)
    warps: int = field(default=4, kw_only=True)
    stages: int = field(default=3, kw_only=True)
    registers: int | None = field(default=None, kw_only=True)

    def _compile(
        self, plugin: KernelOwner, specs: Sequence[TensorSpec], capability: int
    ) -> PtxKernel:
        function, constants = self._bound(plugin, specs)
        names = list(function.arg_names)
        pointers = [_TRITON[spec.dtype] for spec in specs]
        inputs = len(plugin.inputs)
        scalars = ["i32"] * len(self.launch(plugin, specs).scalars)
        kinds = [*pointers[:inputs], *scalars, *pointers[inputs:]]
        passed = [name for name in names if name not in constants]
        if len(passed) != len(kinds):
            raise UsageError(
                "the Triton kernel's arguments are not the inputs, the scalars, the outputs and "
                "the constants",
                expected=f"{len(kinds)} arguments besides constants {', '.join(constants)}",
                got=", ".join(passed),
            )
        signature = dict.fromkeys(names, "constexpr") | dict(zip(passed, kinds, strict=True))
        shape = (self.warps, self.stages)
        return compile_triton(function, signature, constants, shape, capability, self.registers)

    def interpret(
        self, plugin: KernelOwner, specs: Sequence[TensorSpec], tensors: Sequence[Any]
    ) -> None:
        """Runs the kernel in Triton's interpreter, on the CPU.

        The process must have been started with ``TRITON_INTERPRET=1`` in its environment.

        Args:
            specs: of the inputs, then of the outputs.
            tensors: PyTorch tensors in the host's memory, in the same order; the outputs are
                written.
        """
        function, constants = self._bound(plugin, specs)
        launch, count = self.launch(plugin, specs), len(plugin.inputs)
        if all(launch.grid):
            inputs, outputs = tensors[:count], tensors[count:]
            function[launch.grid](*inputs, *launch.scalars, *outputs, **constants)

    def _bound(
        self, plugin: KernelOwner, specs: Sequence[TensorSpec]
    ) -> tuple[Any, dict[str, Any]]:
        """Returns the function, and those constants that it takes."""
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
    """A kernel in CUDA C++; :func:`cuda_kernel` makes one and describes its arguments.

    Attributes:
        file: name of the source in error messages.
    """

    source: str = field(kw_only=True)
    entry: str = field(kw_only=True)
    threads: int = field(default=256, kw_only=True)
    shared: int = field(default=0, kw_only=True)
    file: str = field(default="kernel.cu", kw_only=True)

    def _compile(
        self, plugin: KernelOwner, specs: Sequence[TensorSpec], capability: int
    ) -> PtxKernel:
        names = [*plugin.inputs, *_output_names(len(specs) - len(plugin.inputs))]
        headers = sorted({_HEADERS[spec.dtype] for spec in specs if spec.dtype in _HEADERS})
        preamble = [
            *(f"#include <{name}>" for name in headers),
            *(f"using {n}_t = {_CUDA[s.dtype]};" for n, s in zip(names, specs, strict=True)),
            *(_constant(name, value) for name, value in self._constants(plugin, specs).items()),
            f'#line 1 "{self.file}"',
        ]
        source = "\n".join([*preamble, self.source])
        return compile_cuda(source, self.entry, (self.threads, self.shared), capability)


@dataclass(frozen=True)
class PythonKernel:
    """A Python function that fills PyTorch tensors on a GPU.

    It may launch several kernels and allocate memory. An engine that contains it needs Python.

    Attributes:
        function: ``function(plugin, *inputs, *outputs)``. Inputs are contiguous, or channels_last
            where PyTorch's tensor is; outputs are contiguous.
    """

    function: Callable[..., None]


Kernel = TritonKernel | CudaKernel | PythonKernel


def triton_kernel(
    function: Any,
    *,
    grid: SizeFunction,
    scalars: SizeFunction | None = None,
    constants: Constants | None = None,
    warps: int = 4,
    stages: int = 3,
    registers: int | None = None,
) -> TritonKernel:
    """Declares a kernel in Triton.

    Args:
        function: a function decorated with ``@triton.jit``, or its import path
            ``"module:function"``. Its arguments are the inputs, the scalars, the outputs, and
            constants; a constant with the name of an attribute of the plugin gets its value.
        grid: ``grid(plugin, *inputs, *outputs)``, called with TensorSpecs, gives one to three
            sizes.
        scalars: a function like `grid` that gives the integers the kernel takes.
        constants: values of the other constants: a mapping, or a function like `grid`.
        warps, stages: Triton's ``num_warps`` and ``num_stages``.
        registers: the most registers that a thread may have, Triton's ``maxnreg``.
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
    grid: SizeFunction,
    scalars: SizeFunction | None = None,
    constants: Constants | None = None,
    threads: int = 256,
    shared: int = 0,
) -> CudaKernel:
    """Declares a kernel in CUDA C++, which NVRTC compiles.

    In the source, the element type of an input ``x`` is ``x_t``, that of the output is
    ``output_t`` (of several outputs ``output0_t``, ``output1_t``); attributes and constants are
    constants under their names. A driver cannot read PTX of an NVRTC newer than itself.

    Args:
        source: C++, or the name of a file beside the one that declares the plugin.
        entry: name of the kernel, which is ``extern "C" __global__``. Its arguments are pointers
            to the inputs, scalars of type ``int``, and pointers to the outputs.
        grid, scalars, constants: as for :func:`triton_kernel`.
        threads: threads of a block.
        shared: dynamic shared memory of a block, in bytes.
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


def as_kernel(stated: Any, module: str) -> Kernel | None:
    """Returns what a declaration gives as a kernel, with the source of a CUDA kernel read.

    Args:
        stated: ``None``, a kernel, or a Python function.
        module: name of the module that declares the plugin; a source file lies beside it.

    Raises:
        UsageError: `stated` is not a kernel, or its source file cannot be read.
    """
    if isinstance(stated, CudaKernel) and "\n" not in stated.source:
        home = getattr(sys.modules.get(module), "__file__", None) or "."
        path = Path(home).parent / stated.source
        try:
            return replace(stated, source=path.read_text(), file=str(path))
        except OSError as error:
            raise UsageError(
                "the kernel's source cannot be read",
                got=error,
                fix="give the C++ text, or the name of a file beside the declaration",
            ) from error
    if stated is None or isinstance(stated, (TritonKernel, CudaKernel, PythonKernel)):
        return stated
    if callable(stated):
        return PythonKernel(stated)
    raise UsageError(
        "this is no kernel",
        expected="triton_kernel(...), cuda_kernel(...) or a function",
        got=repr(stated),
    )


def _output_names(count: int) -> list[str]:
    return ["output"] if count == 1 else [f"output{i}" for i in range(count)]


def _constant(name: str, value: Any) -> str:
    """Returns the definition of the constant `name` in C++."""
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

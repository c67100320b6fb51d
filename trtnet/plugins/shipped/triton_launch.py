"""Launches of the shipped Triton kernels, as data: they can be run, or compiled ahead of time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, overload

from trtnet.errors import ShapeError
from trtnet.plugins.kernels import TritonKernel, triton_kernel
from trtnet.plugins.symbolic_sizes import AnySize, SymbolicShape

if TYPE_CHECKING:
    import torch

Shape = tuple[int, ...]


@dataclass(frozen=True)
class TritonLaunch:
    """One launch of one Triton kernel.

    Attributes:
        kernel: the ``triton.jit`` function. Its arguments are pointers to the inputs, 32-bit
            integers, pointers to the outputs, and constants: TensorRT's order.
        inputs: names of the tensors it reads; all tensors are aligned to 16 bytes.
        sizes: the 32-bit integers.
        outputs: names of the tensors it writes.
        constants: values of the ``constexpr`` arguments, by name.
        grid: number of programs.
        warps, stages: Triton's ``num_warps`` and ``num_stages``.
        registers: the most registers that a thread may have, Triton's ``maxnreg``.
    """

    kernel: Any
    inputs: tuple[str, ...]
    sizes: SymbolicShape
    outputs: tuple[str, ...]
    constants: Mapping[str, Any]
    grid: AnySize
    warps: int = 4
    stages: int = 3
    registers: int | None = None

    def signature(self, types: Mapping[str, str]) -> dict[str, str]:
        """Returns Triton's type of every argument, for ``triton.compiler.ASTSource``.

        Args:
            types: Triton's name of each tensor's dtype, such as ``"fp16"``, by tensor.
        """
        read, written = ([f"*{types[n]}" for n in names] for names in (self.inputs, self.outputs))
        kinds = [*read, *["i32"] * len(self.sizes), *written]
        names = self.kernel.arg_names
        return dict(zip(names, kinds, strict=False)) | dict.fromkeys(self.constants, "constexpr")


@dataclass(frozen=True)
class LaunchPlan:
    """Launches that run one after the other.

    Attributes:
        launches: the launches, in order.
        scratch: shapes of the intermediate tensors by name; they have the first input's type.
    """

    launches: tuple[TritonLaunch, ...]
    scratch: Mapping[str, Shape] = field(default_factory=dict)

    @property
    def only(self) -> TritonLaunch:
        """The launch of a plan that has exactly one."""
        (launch,) = self.launches
        return launch


def embedded(
    function: str,
    launch: Callable[..., TritonLaunch],
    warps: int = 4,
    registers: int | None = None,
) -> TritonKernel:
    """Declares a kernel of a single launch; engines contain it as PTX.

    Args:
        function: import path of the kernel, ``"module:function"``; imported when it is compiled.
        launch: ``launch(plugin, *inputs, *outputs)``, called with TensorSpecs whose sizes may be
            symbolic, gives the launch.
        warps, registers: those of the launch.
    """
    return triton_kernel(
        function,
        grid=lambda *specs: [launch(*specs).grid],
        scalars=lambda *specs: launch(*specs).sizes,
        constants=lambda *specs: launch(*specs).constants,
        warps=warps,
        registers=registers,
    )


def run_plan(plan: LaunchPlan, tensors: Mapping[str, torch.Tensor]) -> None:
    """Enqueues the launches of `plan` on PyTorch's current stream.

    Args:
        tensors: inputs and outputs by name, contiguous and on one GPU, the first input first.
    """
    import torch

    first = next(iter(tensors.values()))
    scratch = {
        name: torch.empty(shape, dtype=first.dtype, device=first.device)
        for name, shape in plan.scratch.items()
    }
    known = {**tensors, **scratch}
    for launch in plan.launches:
        if launch.grid:
            launch.kernel[(launch.grid,)](
                *(known[name] for name in launch.inputs),
                *launch.sizes,
                *(known[name] for name in launch.outputs),
                **launch.constants,
                num_warps=launch.warps,
                num_stages=launch.stages,
                maxnreg=launch.registers,
            )


def require_shapes(
    plugin: str, shapes: Mapping[str, SymbolicShape], expected: Mapping[str, SymbolicShape]
) -> None:
    """Checks the shapes that a kernel relies on.

    Args:
        plugin: name of the plugin, for the message.
        shapes: shapes of the tensors by name.
        expected: what they must be; tensors that are not in `shapes` are not checked.

    Raises:
        ShapeError: a tensor has another shape than `expected`.
    """
    for name, shape in expected.items():
        if name in shapes and tuple(shapes[name]) != shape:
            raise ShapeError(
                f"{plugin}: {name} has another shape", expected=shape, got=tuple(shapes[name])
            )


def power_of_2(n: int) -> int:
    """Returns the smallest power of two that is at least `n`."""
    return 1 << max(n - 1, 0).bit_length()


@overload
def blocks(n: int, block: int) -> int: ...
@overload
def blocks(n: AnySize, block: int) -> AnySize: ...
def blocks(n: AnySize, block: int) -> AnySize:
    """Returns how many blocks of `block` elements cover `n` elements."""
    return (n + block - 1) // block

"""What a kernel launch is made of: enough to run it on tensors, or to compile it ahead."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from trtnet.errors import ShapeError
from trtnet.plugins.kernels import TritonKernel, triton_kernel

if TYPE_CHECKING:
    import torch

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Launch:
    """One launch of one Triton kernel.

    Attributes:
        kernel: the ``triton.jit`` function. Its arguments are pointers to the inputs, 32-bit
            integers, pointers to the outputs, and constants: TensorRT's order.
        inputs: names of the tensors read; all tensors are aligned to 16 bytes.
        sizes: the integers.
        outputs: names of the tensors written.
        constants: the arguments known when the kernel is compiled, by name.
        grid: the number of programs.
        warps, stages: Triton's ``num_warps`` and ``num_stages``.
        registers: the most that a thread may have, Triton's ``maxnreg``.
    """

    kernel: Any
    inputs: tuple[str, ...]
    sizes: tuple[int, ...]
    outputs: tuple[str, ...]
    constants: Mapping[str, Any]
    grid: int
    warps: int = 4
    stages: int = 3
    registers: int | None = None

    def signature(self, types: Mapping[str, str]) -> dict[str, str]:
        """Triton's type of every argument, for ``triton.compiler.ASTSource``.

        Args:
            types: Triton's names of the tensors' dtypes, such as ``"fp16"``, by tensor.
        """
        read, written = ([f"*{types[n]}" for n in names] for names in (self.inputs, self.outputs))
        kinds = [*read, *["i32"] * len(self.sizes), *written]
        names = self.kernel.arg_names
        return dict(zip(names, kinds, strict=False)) | dict.fromkeys(self.constants, "constexpr")


@dataclass(frozen=True)
class Work:
    """Launches one after the other, and the shapes of what they leave for one another, which has
    the type of the first input."""

    launches: tuple[Launch, ...]
    scratch: Mapping[str, Shape] = field(default_factory=dict)

    @property
    def only(self) -> Launch:
        """The launch, of work that is a single one."""
        (launch,) = self.launches
        return launch


def embedded(
    function: str,
    launch: Callable[..., Launch],
    warps: int = 4,
    registers: int | None = None,
) -> TritonKernel:
    """A kernel of a single launch as one that a declaration takes, and that engines hold.

    Args:
        function: where the kernel is: ``"module:function"``; loaded when it is compiled.
        launch: gives the launch of it, ``launch(plugin, *inputs, *outputs)``, on TensorSpecs whose
            sizes may be unknown.
        warps, registers: as in the launch.
    """
    return triton_kernel(
        function,
        grid=lambda *specs: [launch(*specs).grid],
        scalars=lambda *specs: launch(*specs).sizes,
        constants=lambda *specs: launch(*specs).constants,
        warps=warps,
        registers=registers,
    )


def run(work: Work, tensors: Mapping[str, torch.Tensor]) -> None:
    """Enqueues `work` on PyTorch's current stream.

    Args:
        tensors: inputs and outputs by name, contiguous and on one GPU, the first input first.
    """
    import torch

    first = next(iter(tensors.values()))
    scratch = {
        name: torch.empty(shape, dtype=first.dtype, device=first.device)
        for name, shape in work.scratch.items()
    }
    known = {**tensors, **scratch}
    for launch in work.launches:
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


def require(plugin: str, shapes: Mapping[str, Shape], expected: Mapping[str, Shape]) -> None:
    """Checks shapes that a kernel relies on; tensors that are not given need none.

    Raises:
        ShapeError: a tensor has another shape than `expected`.
    """
    for name, shape in expected.items():
        if name in shapes and tuple(shapes[name]) != shape:
            raise ShapeError(
                f"{plugin}: {name} has another shape", expected=shape, got=tuple(shapes[name])
            )


def power_of_2(n: int) -> int:
    """The smallest power of two that is not below `n`."""
    return 1 << max(n - 1, 0).bit_length()


def blocks(n: int, block: int) -> int:
    """How many blocks of `block` cover `n`."""
    return (n + block - 1) // block

"""``trtnet plugin test`` and ``bench``: a plugin's kernel and native form against its reference."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from trtnet import reference
from trtnet.backend import Backend, load
from trtnet.dtypes import bfloat16, float16
from trtnet.errors import BackendError, TrtnetError, VerificationError
from trtnet.hardware import missing_gpu
from trtnet.network import Network
from trtnet.plugins import ahead, launch
from trtnet.plugins.checking import example, specs_of
from trtnet.plugins.examples import Draw, as_type
from trtnet.plugins.kernels import Kernel, PythonKernel, TritonKernel
from trtnet.plugins.running import run_reference, tensors_of, torch_dtype
from trtnet.plugins.spec import Format

if TYPE_CHECKING:
    from trtnet.plugins.declaration import Plugin

# Largest relative L2 error: of a kernel by the type of its output, of a native form in float64.
_TOLERANCE, NATIVE_TOLERANCE = 1e-5, 1e-5
_HALF_TOLERANCES = {float16: 2e-3, bfloat16: 1.6e-2}
_LARGEST = (6, 17, 40)  # sizes of axes, in turns
INTERPRET = "TRITON_INTERPRET"  # Triton's environment variable
_WARM_UP, _ROUNDS, _REPEATS = 5, 20, 10


@dataclass(frozen=True)
class Row:
    """What was found in one format.

    Attributes:
        format: in words.
        form: ``"kernel"``, ``"interpreted"`` or ``"native"``.
        cases: examples compared.
        worst: largest relative L2 error of an output.
        failure: what is wrong, with the example it was found on; None where nothing is.
        skipped: why nothing was compared; None where something was.
    """

    format: str
    form: str
    cases: int = 0
    worst: float = 0.0
    failure: str | None = None
    skipped: str | None = None


def check(made: type[Plugin], cases: int = 50, seed: int = 0) -> list[Row]:
    """Compares both forms with the reference in float64, in every format.

    Args:
        cases: seeded examples for each format, of which the kernel gets some empty ones.
        seed: of the first.

    The native form is put into networks by whatever TensorRT is installed, and run by the
    reference executor. Without a GPU kernels are compiled and not run; those in Triton are, by
    its interpreter, where the environment has ``TRITON_INTERPRET=1``.
    """
    rows = []
    reason = missing_gpu() or (None if torch.cuda.is_available() else "PyTorch finds no GPU")
    numbers = range(seed, seed + cases)
    for entry, kernel in made.kernels.items():
        draws = [Draw(n, largest=_LARGEST[n % 3], empty=True) for n in numbers]
        if kernel is not None and reason is None:
            rows.append(_compare(made, entry, "kernel", draws, _run_kernel))
        elif isinstance(kernel, TritonKernel) and os.environ.get(INTERPRET) == "1":
            rows.append(_compare(made, entry, "interpreted", draws, _interpret))
        elif kernel is not None:
            rows.append(_compiled(made, entry, kernel, str(reason)))
        if made.native is not None:
            rows.append(_check_native(made, entry, numbers))
    return rows


Results = Sequence[Tensor]


def _check_native(made: type[Plugin], entry: Format, numbers: Iterable[int]) -> Row:
    try:
        run = partial(_run_native, backend=load())
    except BackendError as error:
        return Row(str(entry), "native", skipped=f"not built: {error.problem}")
    draws = [Draw(n) for n in numbers]  # a network has no empty input
    return _compare(made, entry, "native", draws, run)


def _compiled(made: type[Plugin], entry: Format, kernel: Kernel, reason: str) -> Row:
    """Compiles the kernel for every target, which needs no GPU."""
    row = Row(str(entry), "kernel", skipped=f"not run: {reason}")
    if isinstance(kernel, PythonKernel):
        return row
    plugin, arrays = example(made, Draw(0))
    specs = specs_of(arrays, entry)
    try:
        for capability in ahead.CAPABILITIES:
            kernel.compile(plugin, [*specs, *plugin.rule(specs)], capability)
    except BackendError as error:
        return replace(row, skipped=f"neither run nor compiled: {reason}; {error.problem}")
    except TrtnetError as error:
        return replace(row, failure=str(error))
    targets = ", ".join(f"sm_{capability}" for capability in ahead.CAPABILITIES)
    return replace(row, skipped=f"compiled for {targets}, but not run: {reason}")


def _compare(
    made: type[Plugin],
    entry: Format,
    form: str,
    draws: Iterable[Draw],
    run: Callable[..., tuple[Results, Results]],
) -> Row:
    worst, count = 0.0, 0
    for draw in draws:
        plugin, drawn = example(made, draw)
        arrays = list(map(as_type, drawn, entry.inputs))
        try:
            error = _error(*run(plugin, entry, arrays))
            limit = NATIVE_TOLERANCE if form == "native" else _tolerance(entry)
            failure = None if error <= limit else f"relative L2 error {error:.2g} > {limit:.2g}"
        except TrtnetError as problem:
            failure, error = str(problem), 0.0
        worst = max(worst, error)
        if failure is not None:
            shapes = ", ".join(str(array.shape) for array in arrays)
            failure = f"{plugin!r} on {shapes} (seed {draw.seed}): {failure}"
            return Row(str(entry), form, count, worst, failure)
        count += 1
    return Row(str(entry), form, count, worst)


def _tolerance(entry: Format) -> float:
    types = (*entry.inputs, *entry.outputs)
    return max([_TOLERANCE, *(_HALF_TOLERANCES.get(dtype, 0.0) for dtype in types)])


def _error(got: Results, wanted: Results) -> float:
    """The largest relative L2 error of an output; of integers, the part that differs."""
    errors = [0.0]
    for a, b in zip(got, wanted, strict=True):
        if a.shape != b.shape:
            raise VerificationError(
                "the shapes differ", expected=tuple(b.shape), got=tuple(a.shape)
            )
        if not b.numel():
            continue
        if b.is_floating_point():
            distance = (a.double() - b.double()).norm() / b.double().norm().clamp(min=1e-30)
            errors.append(float("inf") if distance.isnan() else float(distance))
        else:
            errors.append(float((a.to(b.dtype) != b).double().mean()))
    return max(errors)


def _run_kernel(
    plugin: Plugin, entry: Format, arrays: Sequence[np.ndarray]
) -> tuple[Results, Results]:
    """On the GPU, twice."""
    inputs = [tensor.cuda() for tensor in tensors_of(arrays, entry)]
    return _twice(plugin, entry, inputs, partial(launch.run, plugin, inputs))


def _interpret(
    plugin: Plugin, entry: Format, arrays: Sequence[np.ndarray]
) -> tuple[Results, Results]:
    """In Triton's interpreter, twice."""
    inputs = tensors_of(arrays, entry)
    kernel, ruled = launch.kernel_of(plugin, specs_of(inputs, entry))
    assert isinstance(kernel, TritonKernel)
    specs = [*specs_of(inputs, entry), *ruled]
    return _twice(
        plugin, entry, inputs, lambda outputs: kernel.interpret(plugin, specs, [*inputs, *outputs])
    )


def _twice(
    plugin: Plugin, entry: Format, inputs: list[Tensor], run: Callable[[list[Tensor]], object]
) -> tuple[Results, Results]:
    """What `run` writes into memory poisoned in two ways: what is not written differs."""
    first, second = (_poisoned(plugin, entry, inputs, high) for high in (True, False))
    for outputs in (first, second):
        run(outputs)
    for a, b in zip(first, second, strict=True):
        if not torch.equal(a.reshape(-1).view(torch.uint8), b.reshape(-1).view(torch.uint8)):
            raise VerificationError(
                "two runs differ",
                fix="write every element of the outputs, and do not depend on the order of threads",
            )
    return first, run_reference(
        plugin, [x.double() if x.is_floating_point() else x for x in inputs]
    )


def _poisoned(plugin: Plugin, entry: Format, inputs: Sequence[Tensor], high: bool) -> list[Tensor]:
    """Outputs full of values that nothing computes: NaN or a large number, or odd integers."""
    made = []
    for spec in plugin.rule(specs_of(inputs, entry)):
        dtype = torch_dtype(spec.dtype)
        if dtype.is_floating_point:
            poison: float = float("nan") if high else 3e4
        else:
            poison = int(high) if dtype == torch.bool else 113 if high else 7
        made.append(torch.full(spec.shape, poison, dtype=dtype, device=inputs[0].device))
    return made


def _run_native(
    plugin: Plugin, entry: Format, arrays: Sequence[np.ndarray], *, backend: Backend
) -> tuple[Results, Results]:
    """The network of the native form, executed by the reference executor in float64."""
    network = Network(backend, plugins="native")
    inputs = [
        network.input(name, array.shape, dtype)
        for name, array, dtype in zip(plugin.inputs, arrays, entry.inputs, strict=True)
    ]
    made = plugin(*inputs)
    names = []
    for i, tensor in enumerate(made if isinstance(made, tuple) else (made,)):
        names.append(f"output{i}")
        network.output(names[-1], tensor, tensor.dtype)
    fed = dict(zip(plugin.inputs, arrays, strict=True))
    results = reference.run(network.definition, fed, float64=True)
    wanted = run_reference(plugin, tensors_of(arrays, entry, wide=True))
    return [torch.from_numpy(results[name]) for name in names], wanted


@dataclass(frozen=True)
class Timing:
    """One format on one example: medians in seconds.

    Attributes:
        format: in words.
        shapes: of the inputs.
        kernel, reference: time of each on this GPU.
        nbytes: that must be moved: inputs and outputs, once.
        macs: multiply-accumulates, where the plugin declares them.
    """

    format: str
    shapes: str
    kernel: float
    reference: float
    nbytes: int
    macs: int


def bench(made: type[Plugin], size: int = 64, seed: int = 0) -> list[Timing]:
    """Times the kernel and the reference, in turns, on an example whose axes have `size`.

    Raises:
        BackendError: there is no GPU.
    """
    reason = missing_gpu()
    if reason is not None or not torch.cuda.is_available():
        raise BackendError("a kernel is timed on a GPU", got=reason or "PyTorch finds none")
    rows = []
    for entry, kernel in made.kernels.items():
        if kernel is None:
            continue
        plugin, drawn = example(made, Draw(seed, largest=size, smallest=size, rank=4))
        inputs = [x.cuda() for x in tensors_of(list(map(as_type, drawn, entry.inputs)), entry)]
        outputs = launch.run(plugin, inputs)
        times = _interleaved(
            lambda p=plugin, x=inputs, y=outputs: launch.run(p, x, y),  # type: ignore[misc]
            lambda p=plugin, x=inputs: run_reference(p, x),  # type: ignore[misc]
        )
        rows.append(
            Timing(
                format=str(entry),
                shapes=", ".join(str(tuple(x.shape)) for x in inputs),
                kernel=times[0],
                reference=times[1],
                nbytes=sum(x.numel() * x.element_size() for x in (*inputs, *outputs)),
                macs=plugin.cost(*(tuple(x.shape) for x in inputs)) if plugin.cost else 0,
            )
        )
    return rows


def _interleaved(*functions: Callable[[], object]) -> list[float]:
    """The median time of each function on the GPU, in seconds, measured in turns."""
    times: list[list[float]] = [[] for _ in functions]
    for round_ in range(_WARM_UP + _ROUNDS):
        for function, measured in zip(functions, times, strict=True):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            for _ in range(_REPEATS):
                function()
            end.record()
            end.synchronize()
            if round_ >= _WARM_UP:
                measured.append(start.elapsed_time(end) / 1e3 / _REPEATS)
    return [median(measured) for measured in times]

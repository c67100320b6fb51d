"""Tests and times a plugin: its kernel and its native form against its reference.

``trtnet plugin test`` and ``trtnet plugin bench`` call these functions.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import median

import numpy as np
import torch
from torch import Tensor

from trtnet import reference
from trtnet.backend import Backend, load
from trtnet.dtypes import bfloat16, float16
from trtnet.errors import BackendError, TrtnetError, VerificationError
from trtnet.hardware import missing_gpu
from trtnet.network import Network
from trtnet.plugins.aot_compile import CAPABILITIES
from trtnet.plugins.checking import example, specs_of
from trtnet.plugins.declaration import Plugin
from trtnet.plugins.examples import Draw, as_type
from trtnet.plugins.kernel_execution import kernel_of, run_kernel
from trtnet.plugins.kernels import Kernel, PythonKernel, TritonKernel
from trtnet.plugins.reference_execution import run_reference, tensors_of, torch_dtype
from trtnet.plugins.spec import Format

# Largest relative L2 errors: of kernels, by their types; and of native forms, in float64.
_TOLERANCE, NATIVE_TOLERANCE = 1e-5, 1e-5
_HALF_TOLERANCES = {float16: 2e-3, bfloat16: 1.6e-2}
_LARGEST = (6, 17, 40)  # largest size of an axis; examples take these in turn
INTERPRET = "TRITON_INTERPRET"  # Triton's environment variable
_WARM_UP, _ROUNDS, _REPEATS = 5, 20, 10


@dataclass(frozen=True)
class FormCheck:
    """The result of comparing one form of a plugin with its reference, in one format.

    Attributes:
        format: the format, as text.
        form: ``"kernel"``, ``"interpreted"`` or ``"native"``.
        cases: number of examples compared.
        worst: largest relative L2 error of an output.
        failure: what is wrong, and on which example; ``None`` where nothing is.
        skipped: why nothing was compared; ``None`` where something was.
    """

    format: str
    form: str
    cases: int = 0
    worst: float = 0.0
    failure: str | None = None
    skipped: str | None = None


def check(kind: type[Plugin], cases: int = 50, seed: int = 0) -> list[FormCheck]:
    """Compares kernel and native form with the reference in float64, in every format.

    The native form is defined with the installed TensorRT and run by the reference executor.
    Without a GPU, kernels are only compiled; Triton's interpreter runs those in Triton where the
    environment has ``TRITON_INTERPRET=1``.

    Args:
        kind: the plugin's class.
        cases: number of random examples of each format; some of the kernel's are empty.
        seed: seed of the first example.
    """
    rows = []
    reason = missing_gpu() or (None if torch.cuda.is_available() else "PyTorch finds no GPU")
    numbers = range(seed, seed + cases)
    for entry, kernel in kind.kernels.items():
        draws = [Draw(n, largest=_LARGEST[n % 3], empty=True) for n in numbers]
        if kernel is not None and reason is None:
            rows.append(_compare(kind, entry, "kernel", draws, _run_kernel))
        elif isinstance(kernel, TritonKernel) and os.environ.get(INTERPRET) == "1":
            rows.append(_compare(kind, entry, "interpreted", draws, _interpret))
        elif kernel is not None:
            rows.append(_compiled(kind, entry, kernel, str(reason)))
        if kind.native is not None:
            rows.append(_check_native(kind, entry, numbers))
    return rows


Outputs = Sequence[Tensor]


def _check_native(kind: type[Plugin], entry: Format, numbers: Iterable[int]) -> FormCheck:
    try:
        run = partial(_run_native, backend=load())
    except BackendError as error:
        return FormCheck(str(entry), "native", skipped=f"not built: {error.problem}")
    draws = [Draw(n) for n in numbers]  # networks take no empty inputs
    return _compare(kind, entry, "native", draws, run)


def _compiled(kind: type[Plugin], entry: Format, kernel: Kernel, reason: str) -> FormCheck:
    """Compiles the kernel for every target; that needs no GPU."""
    row = FormCheck(str(entry), "kernel", skipped=f"not run: {reason}")
    if isinstance(kernel, PythonKernel):
        return row
    plugin, arrays = example(kind, Draw(0))
    specs = specs_of(arrays, entry)
    try:
        for capability in CAPABILITIES:
            kernel.compile(plugin, [*specs, *plugin.rule(specs)], capability)
    except BackendError as error:
        return replace(row, skipped=f"neither run nor compiled: {reason}; {error.problem}")
    except TrtnetError as error:
        return replace(row, failure=str(error))
    targets = ", ".join(f"sm_{capability}" for capability in CAPABILITIES)
    return replace(row, skipped=f"compiled for {targets}, but not run: {reason}")


def _compare(
    kind: type[Plugin],
    entry: Format,
    form: str,
    draws: Iterable[Draw],
    run: Callable[..., tuple[Outputs, Outputs]],
) -> FormCheck:
    worst, count = 0.0, 0
    for draw in draws:
        plugin, drawn = example(kind, draw)
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
            return FormCheck(str(entry), form, count, worst, failure)
        count += 1
    return FormCheck(str(entry), form, count, worst)


def _tolerance(entry: Format) -> float:
    types = (*entry.inputs, *entry.outputs)
    return max([_TOLERANCE, *(_HALF_TOLERANCES.get(dtype, 0.0) for dtype in types)])


def _error(got: Outputs, wanted: Outputs) -> float:
    """Returns the largest relative L2 error of an output; of integers, the share that differs."""
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
) -> tuple[Outputs, Outputs]:
    """Runs the kernel twice on the GPU; returns its outputs and the reference's."""
    inputs = [tensor.cuda() for tensor in tensors_of(arrays, entry)]
    return _twice(plugin, entry, inputs, partial(run_kernel, plugin, inputs))


def _interpret(
    plugin: Plugin, entry: Format, arrays: Sequence[np.ndarray]
) -> tuple[Outputs, Outputs]:
    """Runs the kernel twice in Triton's interpreter; returns its outputs and the reference's."""
    inputs = tensors_of(arrays, entry)
    kernel, ruled = kernel_of(plugin, specs_of(inputs, entry))
    assert isinstance(kernel, TritonKernel)
    specs = [*specs_of(inputs, entry), *ruled]
    return _twice(
        plugin, entry, inputs, lambda outputs: kernel.interpret(plugin, specs, [*inputs, *outputs])
    )


def _twice(
    plugin: Plugin, entry: Format, inputs: list[Tensor], run: Callable[[list[Tensor]], object]
) -> tuple[Outputs, Outputs]:
    """Lets `run` write to outputs filled with two patterns, so that unwritten elements differ.

    Returns:
        The outputs, and those of the reference in float64.

    Raises:
        VerificationError: the two runs differ.
    """
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
    """Returns output tensors filled with values that no kernel computes.

    Args:
        high: chooses between NaN and a large number, or between two integers.
    """
    outputs = []
    for spec in plugin.rule(specs_of(inputs, entry)):
        dtype = torch_dtype(spec.dtype)
        if dtype.is_floating_point:
            poison: float = float("nan") if high else 3e4
        else:
            poison = int(high) if dtype == torch.bool else 113 if high else 7
        outputs.append(torch.full(spec.fixed_shape, poison, dtype=dtype, device=inputs[0].device))
    return outputs


def _run_native(
    plugin: Plugin, entry: Format, arrays: Sequence[np.ndarray], *, backend: Backend
) -> tuple[Outputs, Outputs]:
    """Runs the native form by the reference executor; returns its outputs and the reference's.

    Both are computed in float64.
    """
    network = Network(backend, plugins="native")
    inputs = [
        network.input(name, array.shape, dtype)
        for name, array, dtype in zip(plugin.inputs, arrays, entry.inputs, strict=True)
    ]
    returned = plugin(*inputs)
    names = []
    for i, tensor in enumerate(returned if isinstance(returned, tuple) else (returned,)):
        names.append(f"output{i}")
        network.output(names[-1], tensor, tensor.dtype)
    fed = dict(zip(plugin.inputs, arrays, strict=True))
    results = reference.run(network.definition, fed, float64=True)
    wanted = run_reference(plugin, tensors_of(arrays, entry, wide=True))
    return [torch.from_numpy(results[name]) for name in names], wanted


@dataclass(frozen=True)
class KernelTiming:
    """Times of a plugin's kernel and reference in one format, on one example.

    Attributes:
        format: the format, as text.
        shapes: shapes of the inputs, as text.
        kernel, reference: median times on this GPU, in seconds.
        nbytes: bytes of all inputs and outputs.
        macs: multiply-accumulates; 0 where the plugin declares no cost.
    """

    format: str
    shapes: str
    kernel: float
    reference: float
    nbytes: int
    macs: int


def bench(kind: type[Plugin], size: int = 64, seed: int = 0) -> list[KernelTiming]:
    """Times kernel and reference in turn, in every format.

    Args:
        kind: the plugin's class.
        size: size of the axes of the example.
        seed: seed of the example.

    Raises:
        BackendError: there is no GPU.
    """
    reason = missing_gpu()
    if reason is not None or not torch.cuda.is_available():
        raise BackendError("a kernel is timed on a GPU", got=reason or "PyTorch finds none")
    rows = []
    for entry, kernel in kind.kernels.items():
        if kernel is None:
            continue
        plugin, drawn = example(kind, Draw(seed, largest=size, smallest=size, rank=4))
        inputs = [x.cuda() for x in tensors_of(list(map(as_type, drawn, entry.inputs)), entry)]
        outputs = run_kernel(plugin, inputs)
        times = _interleaved(
            partial(run_kernel, plugin, inputs, outputs), partial(run_reference, plugin, inputs)
        )
        rows.append(
            KernelTiming(
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
    """Returns the median GPU time of each function, in seconds, measured in turn."""
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

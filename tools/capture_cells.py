"""The work of one process of ``tools/capture_sweep.py``: tasks, and the rows that are their
answers."""

from __future__ import annotations

import contextlib
import gc
import math
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from capture_models import Arrays, Prepared, prepared
from workers import in_one_line, serve

import trtnet
from trtnet import graph
from trtnet.verification import TOLERANCES
from trtnet.verification.comparison import compare

Say = Callable[[str], None]
CAPTURED, LOST, WRONG = "captured", "not captured", "wrong"
WAY = "with tactics"
UNKNOWN_SIZE = "the data decides on the size of an output"
CHOSEN = ("num_dets", "det_")  # outputs that near scores decide on: compared in float32 alone
ROWS = ("det_boxes", "det_classes", "det_masks", "det_keypoints", "det_coefficients", "det_points")
GAP = 1e-4  # of two scores whose order rounding does not change


def main() -> None:
    """Does the tasks of standard input."""
    serve(do, ends=lambda error: "CUDA error" in str(error))


def do(task: dict[str, Any], say: Say) -> Mapping[str, Any]:
    """The row of a model in a precision, on a device."""
    warnings.simplefilter("always")
    say("defining")
    found = prepared(task["model"], task["precision"], Path(task["engines"]))
    say("running")
    with warnings.catch_warnings(record=True) as caught:
        run = on_cuda if task["device"] == "cuda" else on_stand_in
        row = run(found, task)
    said = {str(w.message).split("\n")[0][:200] for w in caught if w.category is RuntimeWarning}
    gc.collect()
    return {**row, "warnings": sorted(said)}


def on_cuda(found: Prepared, task: Mapping[str, Any]) -> dict[str, Any]:
    """A session's graphs, and what their launches give."""
    errors: dict[str, float] = {}
    reasons, tried, started = [], [], time.monotonic()
    session = trtnet.Session(
        found.engine, backend="torch", device="cuda", contexts=1,
        optimization_level=task["level"], timing_cache=task["timing_cache"],
    )  # fmt: skip
    with session, session.lane() as steps:
        shapes = None
        for inputs, expected in zip(found.sets, found.expected, strict=True):
            if {key: value.shape for key, value in inputs.items()} != shapes:
                shapes = {key: value.shape for key, value in inputs.items()}
                steps.bind(shapes)
                tried.append(sorted(getattr(steps.context, "tried", {})))
                if not steps.is_captured:
                    reasons.append(steps.capture_failure or _why_not(steps.context))
            steps.fill(inputs)
            steps.copy_in()
            steps.enqueue()
            steps.copy_out()
            steps.stream.synchronize()
            _note(errors, steps.results(), expected)
    torch.cuda.empty_cache()
    is_specialized = all(any(way.startswith(WAY) for way in ways) for ways in tried)
    return {
        **_verdict(reasons, errors, task["precision"]), "specialized": is_specialized,
        "set_up_s": round(time.monotonic() - started, 1),
    }  # fmt: skip


def _why_not(context: Any) -> str:
    if any(-1 in shape for shape in context.output_shapes().values()):
        return UNKNOWN_SIZE
    return "no CUDA graph was asked for"


def on_stand_in(found: Prepared, task: Mapping[str, Any]) -> dict[str, Any]:
    """The engine's module, and what the builder makes of it, on a stand-in for a GPU."""
    import pytest

    sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "engines"))
    from doubles.cuda_tensors import GPU
    from tactics import stand_ins
    from tactics.device import entered

    from trtnet.engines.torch import engine
    from trtnet.engines.torch.tactics.builder import Builder
    from trtnet.engines.torch.tactics.timing_cache import TimingCache
    from trtnet.engines.torch.tactics.values import SpecializationError
    from trtnet.reference.dtypes import DTYPES

    read = graph.loads(trtnet.Plan.load(found.engine).engine, str(found.engine))
    types = [DTYPES[read.tensors[name].dtype] for name in read.inputs]
    errors: dict[str, float] = {}
    reasons: list[str] = []
    if _is_decided_by_data(read, found.sets[0]):
        reasons.append(UNKNOWN_SIZE)
    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as stack:
        stand_ins.replace_kernels(patch)
        device = stack.enter_context(entered(patch))
        module = engine._compile(read, GPU)
        made = None
        for inputs, expected in zip(found.sets[1:], found.expected[1:], strict=True):
            shapes = [inputs[name].shape for name in read.inputs]
            builder = Builder(1, TimingCache({}), GPU, stand_ins.Clock())
            values = [torch.from_numpy(inputs[name]) for name in read.inputs]
            try:
                made = builder.build(module, list(zip(shapes, types, strict=True)))
            except SpecializationError as error:
                made = None
                reasons.append(f"not specialized: {error}")
            for label, one in (("module", module), ("built", made)):
                if one is not None:
                    reasons += _executed(one, values, types, expected, device, label, errors)
    return {**_verdict(reasons, errors, task["precision"]), "specialized": made is not None}


def _is_decided_by_data(read: graph.Graph, inputs: Arrays) -> bool:
    """Whether the size of an output depends on more than those of the inputs."""
    from trtnet.engines.torch.shapes import OutputShapes

    found = OutputShapes(read)({name: inputs[name].shape for name in read.inputs}, {})
    return any(-1 in shape for shape in found.values())


def _executed(
    module: Any, values: Sequence[torch.Tensor], types: Sequence[torch.dtype], expected: Arrays,
    device: Any, label: str, errors: dict[str, float],
) -> list[str]:  # fmt: skip
    """Adds the errors of one execution; why it cannot be captured."""
    from doubles.cuda_tensors import OnGpu
    from tactics.device import executed_twice

    inputs = [OnGpu(x.to(t)) for x, t in zip(values, types, strict=True)]
    try:
        outputs, transfers = executed_twice(module, inputs, device)
    except Exception as error:  # of many kinds: it is what is looked for
        return [f"{label}: {in_one_line(error)}"]
    left = [f"{label}: output {key} lies on the host" for key, value in outputs.items()
            if not isinstance(value, OnGpu)]  # fmt: skip
    arrays = {key: getattr(value, "inner", value).numpy() for key, value in outputs.items()}
    _note(errors, arrays, expected, f"{label} ")
    return left + sorted({f"{label}: {transfer}" for transfer in transfers})


def _note(
    errors: dict[str, float], found: Mapping[str, Any], expected: Arrays, label: str = ""
) -> None:
    """Adds the relative L2 error of each output, the largest so far: NaN where one is not finite or
    has another shape. Of boxes with nearly the same score rounding decides on the order; these are
    left out."""
    apart = _apart(expected)
    for name, right in expected.items():
        ours, theirs = torch.as_tensor(np.asarray(found[name])), torch.from_numpy(right)
        if apart is not None and name.startswith(ROWS) and ours.shape == theirs.shape:
            ours, theirs = ours[apart], theirs[apart]
        if ours.shape != theirs.shape:
            error = float("nan")
        elif theirs.is_floating_point() and not theirs.isfinite().all():
            continue  # as of half precision without trained weights: nothing can be said
        else:
            error = compare("", ours.double(), theirs.double()).rel_l2 if ours.numel() else 0.0
        known = errors.get(label + name, 0.0)
        errors[label + name] = error if error != error or known == known <= error else known


def _apart(expected: Arrays) -> torch.Tensor | None:
    """Which boxes have a score at least :data:`GAP` from the others'; None of other networks."""
    if "det_scores" not in expected:
        return None
    steps = -np.diff(expected["det_scores"].astype(np.float64), axis=1) >= GAP
    edge = np.ones((len(steps), 1), bool)
    return torch.from_numpy(np.hstack([edge, steps]) & np.hstack([steps, edge]))


def _verdict(reasons: Sequence[str], errors: Mapping[str, float], precision: str) -> dict[str, Any]:
    most = TOLERANCES[precision].distance
    limits = {key: math.inf if precision != "fp32" and key.split()[-1].startswith(CHOSEN) else most
              for key in errors}  # fmt: skip
    is_right = all(error <= limits[key] for key, error in errors.items())  # NaN compares false
    status = LOST if reasons else CAPTURED if is_right else WRONG
    return {
        "status": status, "reasons": list(dict.fromkeys(reasons))[:8],
        "errors": {key: float(f"{e:.3g}") for key, e in errors.items() if not e <= most},
        "worst": float(f"{max(errors.values(), default=0.0):.3g}"),
    }  # fmt: skip


if __name__ == "__main__":
    main()

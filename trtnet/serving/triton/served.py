"""What of an engine Triton is told, checked for all that Triton would refuse."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trtnet.building.plan import Plan
from trtnet.building.profiles import Shapes
from trtnet.building.sidecar import Sidecar, StatedTensor
from trtnet.errors import UnsupportedError, UsageError

TYPES: Mapping[str, str] = {
    "float32": "TYPE_FP32",
    "float16": "TYPE_FP16",
    "bfloat16": "TYPE_BF16",
    "int64": "TYPE_INT64",
    "int32": "TYPE_INT32",
    "int8": "TYPE_INT8",
    "uint8": "TYPE_UINT8",
    "bool": "TYPE_BOOL",
}
"""Triton's names of element types; the others of TensorRT have none."""

TENSORRT = "tensorrt"
"""The backend of TensorRT's engines, and Triton's backend for them."""
MORE_BATCHES = (
    "build it for several batches from 1 on: --minShapes, --optShapes and --maxShapes, in Python "
    "trtnet.Shapes"
)
"""What to do about an engine of one fixed batch."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class Served:
    """The inputs and outputs of an engine, as a server sees them.

    Attributes:
        backend: that built it: ``"tensorrt"``, ``"rtx"`` or ``"torch"``.
        inputs, outputs: with the batch axis, -1 for a dynamic axis.
        profiles: the ranges of all inputs, per optimization profile.
        max_batch: the largest batch; 0 where the engine has none that could vary, and shapes are
            served as they are.
    """

    backend: str
    inputs: tuple[StatedTensor, ...]
    outputs: tuple[StatedTensor, ...]
    profiles: tuple[Mapping[str, Shapes], ...]
    max_batch: int

    def dims(self, tensor: StatedTensor) -> tuple[int, ...]:
        """The shape that the configuration states: without a batch axis."""
        return tensor.shape[1:] if self.max_batch else tensor.shape

    def typical(self, tensor: StatedTensor) -> tuple[int, ...]:
        """`dims` of an input, with the most frequent sizes of the first profile."""
        opt = self.profiles[0][tensor.name].opt
        return opt[1:] if self.max_batch else opt


def served(plan: Plan, max_batch: int | None) -> Served:
    """What Triton is told of the engine of `plan`.

    Args:
        plan: with a sidecar, which says what is known of the engine.
        max_batch: the largest batch; ``None`` for the largest of the profiles.

    Raises:
        UsageError: no sidecar; a batch that the engine does not take.
        UnsupportedError: tensors that Triton cannot serve: it says which, and what to build.
    """
    told = plan.described
    if told.backend is None or not told.backend.name or not told.inputs or not told.outputs:
        raise UsageError(
            "nothing says what the engine's inputs and outputs are",
            expected="an engine of trtnet with its sidecar, ENGINE.json, beside it",
            fix="build it with trtnet zoo MODEL --saveEngine FILE (Recipe.engine), or trtnet.build",
        )
    inputs, outputs = tuple(told.inputs), tuple(told.outputs)
    backend = told.backend.name
    for tensor in (*inputs, *outputs):
        _require_servable(tensor, backend)
    _require_runnable(told, backend)
    profiles = profiles_of(told)
    batch = _max_batch(inputs, outputs, profiles, max_batch)
    found = Served(backend, inputs, outputs, profiles, batch)
    for tensor in (*inputs, *outputs):
        if not found.dims(tensor):
            raise UnsupportedError(
                "Triton serves no tensor without axes beside that of the batch",
                module=tensor.name,
                expected=f"a shape such as {(*tensor.shape, 1)}",
                got=str(tensor.shape),
                fix="add an axis in the network: x.unsqueeze(-1)",
            )
    return found


def profiles_of(told: Sidecar) -> tuple[dict[str, Shapes], ...]:
    """The ranges of all inputs, per optimization profile; at least one."""
    fixed = {each.name: Shapes.fixed(each.shape) for each in told.inputs or ()}
    return tuple(
        {**fixed, **{name: Shapes(each.min, each.opt, each.max) for name, each in stated.items()}}
        for stated in told.profiles or [{}]
    )


def _require_servable(tensor: StatedTensor, backend: str) -> None:
    lacks = tensor.dtype not in TYPES
    if lacks or (tensor.dtype == "bfloat16" and backend != TENSORRT):
        raise UnsupportedError(
            "Triton has no such type" if lacks else "Triton's Python backend has no bfloat16",
            module=tensor.name,
            expected=", ".join(name for name in TYPES if name != "bfloat16"),
            got=tensor.dtype,
            fix='keep inputs and outputs in float32: trtnet.Policy(..., io="fp32")',
        )
    if not tensor.name or _CONTROL.search(tensor.name):
        raise UnsupportedError(
            "Triton takes no such name of a tensor",
            got=repr(tensor.name),
            fix="name it in the network: network.output(name, tensor)",
        )


def _require_runnable(told: Sidecar, backend: str) -> None:
    """Refuses engines that need something which the server does not have."""
    foreign = [each.name for each in told.plugins or () if not each.name.startswith("trtnet::")]
    needed = [each.name for each in told.plugins or () if not each.embedded]
    if backend == TENSORRT and needed:
        raise UnsupportedError(
            "Triton's tensorrt backend loads plugins from C++ libraries only, and these are Python",
            got=", ".join(needed),
            fix="build without them: --plugins layers (plugins='layers')",
        )
    if foreign:
        raise UnsupportedError(
            "the server has no declaration of the engine's plugins",
            expected="plugins of trtnet",
            got=", ".join(foreign),
            fix="build without them: --plugins layers (plugins='layers')",
        )
    if told.options is not None and told.options.strip_weights:
        raise UnsupportedError("an engine without its weights gives no results in a server",
                               fix="build it without --stripWeights (strip_weights=)")  # fmt: skip


def _max_batch(
    inputs: Sequence[StatedTensor],
    outputs: Sequence[StatedTensor],
    profiles: Sequence[Mapping[str, Shapes]],
    asked: int | None,
) -> int:
    """The largest batch; 0 where it is not the first axis of everything."""
    every = [*inputs, *outputs]
    without = [each for each in every if not each.shape or each.shape[0] != -1]
    if without and asked is None:
        return 0
    if without:
        raise UsageError(
            "--max-batch (max_batch=) needs an engine whose batch may vary",
            module=without[0].name,
            expected="a dynamic batch as the first axis of every input and output",
            got=", ".join(f"{each.name} {each.shape}" for each in every),
            fix=f"{MORE_BATCHES}, or leave --max-batch (max_batch=) out",
        )
    largest = max(_batches(profile)[1] for profile in profiles)
    batch = largest if asked is None else asked
    ranges = [_batches(profile) for profile in profiles]
    missing = [n for n in range(1, batch + 1) if not any(a <= n <= b for a, b in ranges)]
    if missing:
        raise UsageError(
            f"no profile of the engine takes a batch of {missing[0]}",
            expected=f"every batch from 1 to {batch}, as Triton makes them",
            got=" and ".join(f"{low} to {high}" for low, high in ranges),
            fix=f"{MORE_BATCHES}, or choose --max-batch (max_batch=) of at most {largest}",
        )
    return batch


def _batches(profile: Mapping[str, Shapes]) -> tuple[int, int]:
    """The smallest and the largest batch that all inputs take."""
    shapes = profile.values()
    return max(each.min[0] for each in shapes), min(each.max[0] for each in shapes)

"""The network's values: computed when needed, freed after the last comparison."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from trtnet.graph.types import Graph, Layer
from trtnet.verification.comparison import Row, Tolerance, compare

_PASSES_ON = ("CAST", "SQUEEZE")
# The difference of two values with an error of 1 each has an error of √2; three times as much is
# rare, one case in 370.
_DEVIATIONS = 3 * math.sqrt(2)


@dataclass(frozen=True)
class Candidates:
    """The tensor that a tensor of positions was chosen from.

    Attributes:
        tensor: name of the tensor whose largest or smallest values are at the positions.
        axis: the axis along which they were chosen.
    """

    tensor: str
    axis: int


def candidates(graph: Graph, names: Iterable[str]) -> dict[str, Candidates]:
    """The candidates of those tensors among `names` that hold positions of extreme values."""
    makers = {name: layer for layer in graph.layers for name in layer.outputs}
    found = {}
    for name in names:
        source = name
        while source in makers and makers[source].type in _PASSES_ON:
            source = makers[source].inputs[0] or ""
        layer = makers.get(source)
        if layer and _finds_one(layer) and source == layer.outputs[1]:
            axis = int(layer.attributes["axes"]).bit_length() - 1
            found[name] = Candidates(layer.inputs[0] or "", axis)
    return found


def _finds_one(layer: Layer) -> bool:
    return layer.type == "TOPK" and layer.attributes["k"] == 1


class Values:
    """A network's values by tensor name; a lookup computes the layers up to that tensor.

    Args:
        graph: the network.
        computed: yields names and values in execution order.
        compared: names of the tensors that will be compared, repeated for each comparison.
        keep: keep every value; otherwise each is freed after its last comparison.
    """

    def __init__(
        self,
        graph: Graph,
        computed: Iterator[tuple[str, Tensor]],
        compared: Iterable[str],
        keep: bool,
    ) -> None:
        self._computed, self._keep = computed, keep
        self._held: dict[str, Tensor] = {}
        self._uses = Counter(compared)  # comparisons still to come
        self._candidates = candidates(graph, self._uses)
        for name, found in self._candidates.items():
            self._uses[found.tensor] += self._uses[name]

    def __getitem__(self, name: str) -> Tensor:
        while name not in self._held:
            computed, value = next(self._computed)
            self._held[computed] = value
        return self._held[name]

    def compare(self, name: str, tensor: str, theirs: Tensor, tolerance: Tolerance) -> Row:
        """The row `name`: the value of `tensor` against `theirs`, PyTorch's."""
        ours, found = self[tensor], self._candidates.get(tensor)
        if found is None:
            return compare(name, ours, theirs)
        scores = self[found.tensor].movedim(found.axis, 0)
        as_good = _as_good(ours, theirs, scores, tolerance.distance)
        return compare(name, ours, theirs, as_good)

    def release(self, tensor: str) -> None:
        """Counts one comparison of `tensor`; the last one frees the value."""
        found = self._candidates.get(tensor)
        for name in (tensor, found.tensor) if found else (tensor,):
            self._uses[name] -= 1
            if self._uses[name] <= 0 and not self._keep:
                self._held.pop(name, None)


def _as_good(ours: Tensor, theirs: Tensor, scores: Tensor, distance: float) -> Tensor | None:
    """Which positions in `ours` are as good as those in `theirs`.

    Both are positions along the first axis of `scores`. One is as good as the other where the
    scores there differ by no more than an error of `distance` times the root mean square of all
    scores explains. ``None`` where the tensors cannot be such positions.
    """
    fits = ours.shape == theirs.shape and ours.numel() == scores[:1].numel()
    if not fits or theirs.is_floating_point():
        return None
    scores = scores.float() if scores.dtype in (torch.float16, torch.bfloat16) else scores
    both = torch.stack([ours, theirs.to(ours.device, ours.dtype)]).reshape(2, *scores.shape[1:])
    inside = (both[1] >= 0) & (both[1] < len(scores))
    chosen = scores.gather(0, both.long().clamp(0, len(scores) - 1))
    allowed = _DEVIATIONS * distance * scores.square().mean().sqrt()
    # With infinite scores, only equal ones are as good.
    allowed = allowed.nan_to_num(0.0, posinf=0.0)
    return (inside & ((chosen[0] - chosen[1]).abs() <= allowed)).reshape(ours.shape)

"""Which functions and modules of PyTorch code define layers, and which do not."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trtnet.dtypes import float32
from trtnet.network import Network

if TYPE_CHECKING:
    import torch

    from trtnet.torch_modules.exploring import Gap


@dataclass(frozen=True)
class Explained:
    """What :func:`explain` found.

    Attributes:
        modules: number of modules of each class.
        mapped: number of calls of each function of PyTorch that added layers.
        gaps: calls that cannot be mapped: function, module, line, problem, fix, count.
        stopped: why the run ended before the end of the code; ``None`` where it did not.
    """

    modules: Mapping[str, int]
    mapped: Mapping[str, int]
    gaps: tuple[Gap, ...]
    stopped: str | None = None

    @property
    def is_complete(self) -> bool:
        """Whether all of the code defines layers."""
        return not self.gaps and self.stopped is None

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {**dataclasses.asdict(self), "complete": self.is_complete}


def explain(
    module: torch.nn.Module,
    shapes: Sequence[Sequence[int | str]],
    dtypes: Sequence[object] | None = None,
    backend: str = "auto",
) -> Explained:
    """Runs the code of `module` once and says which of its functions define layers, and which do
    not, all at once. After one that does not the run goes on with a placeholder; code that depends
    on values of tensors takes the branch for zero.

    Args:
        shapes: of the inputs, in the order of ``forward``; names are dynamic axes.
        dtypes: of the inputs; float32 by default.
        backend: see :func:`trtnet.backend.load`.
    """
    from trtnet.torch_modules.conversion import from_torch
    from trtnet.torch_modules.exploring import Exploring
    from trtnet.torch_modules.results import InnerCall

    network = Network(backend)
    kinds = dtypes or [float32] * len(shapes)
    given = [
        network.input(f"input{index}", shape, kind)
        for index, (shape, kind) in enumerate(zip(shapes, kinds, strict=True))
    ]

    def placeholder(shape: Sequence[int], kind: object) -> Any:
        return network.input(f"placeholder{len(network.inputs)}", shape, kind)

    converted = from_torch(module, "direct")
    tracing = converted.tracing(network, Exploring, placeholder=placeholder)
    stopped = None
    try:
        call = InnerCall(converted.run, (tracing, given, {}), {})
        network.call(converted, (call,), {})
    except Exception as error:  # of the code itself: of any kind
        stopped = f"{type(error).__name__}: {error}".splitlines()[0]
    classes = Counter(type(part).__name__ for part in module.modules())
    return Explained(dict(classes), dict(tracing.mapped), _merged(tracing.gaps), stopped)


def _merged(gaps: Sequence[Gap]) -> tuple[Gap, ...]:
    """Equal gaps as one."""
    counts = Counter(gaps)
    return tuple(dataclasses.replace(gap, count=count) for gap, count in counts.items())

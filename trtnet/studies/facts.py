"""Facts: what a study is made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trtnet.analysis import Bound, Cost
from trtnet.graph import Graph
from trtnet.graph.types import TensorShapes
from trtnet.precision.policy import Explanation, Policy
from trtnet.studies.errors import ModuleError

if TYPE_CHECKING:
    from trtnet.benchmark import LayerTime


@dataclass(frozen=True)
class Facts:
    """What is known of a network.

    Attributes:
        about: name, GPU, attribution, data, weights, versions, and notes in words; JSON values.
        graph: the network.
        shapes: the concrete shape of every tensor.
        cost: of one execution.
        bound: on the GPU; ``None`` where none was named.
        policy: ``None`` of a network that was read from a file.
        explanations: what the policy decides, by module path; empty without a policy.
        classes: the class name of each module, by path; empty without a policy.
        errors: what each lowered module costs in error, by path; empty without data.
        profile: measured times of the layers of an engine of this network; empty without one.
        attribution: which layer gets the cost of a kernel; see :mod:`trtnet.analysis.attribution`.
    """

    about: Mapping[str, Any]
    graph: Graph
    shapes: TensorShapes
    cost: Cost
    bound: Bound | None
    policy: Policy | None
    explanations: Mapping[str, Explanation]
    classes: Mapping[str, str]
    errors: Mapping[str, ModuleError]
    profile: tuple[LayerTime, ...]
    attribution: str

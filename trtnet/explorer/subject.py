"""What a page is about: a network, and what is known of the model it was made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from trtnet import graph
from trtnet.analysis.counting import known_shapes
from trtnet.errors import TrtnetError, UsageError
from trtnet.graph import Cost, Graph
from trtnet.graph.kernels import Kernel, group_into_kernels
from trtnet.network import Network
from trtnet.pipeline.calibration import unit_ranges
from trtnet.pipeline.defined import LoadedModel
from trtnet.pipeline.precision_suffix import split_precision
from trtnet.pipeline.progress import Observer
from trtnet.pipeline.recipe import Recipe
from trtnet.pipeline.target import Target, find_target
from trtnet.precision.policy import PRESETS, Policy
from trtnet.precision.table import QUANTIZED

VARIANTS = ("tf32", "fp16", "bf16", "int8", "fp8")
"""The precisions in which a model's costs are told, besides its own. FP32's are those of TF32 at
another rate."""


@dataclass(frozen=True)
class Subject:
    """A network to show.

    Attributes:
        name: as it was asked for.
        graph: of the network.
        shapes: of its inputs, where they are dynamic.
        network: that `graph` was read from; ``None`` for a file.
        model: that `network` is of; ``None`` for a file or a network defined by hand.
        recipe: of that model, where it was made of one.
        sidecar: of the engine that was asked for, JSON values; empty where none was.
        notes: what to know of the network, in words.
        values: whether the weights' values are the model's own: without them, they are all 1.
    """

    name: str
    graph: Graph
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    network: Network | None = None
    model: LoadedModel | None = None
    recipe: Recipe | None = None
    values: bool = True
    sidecar: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @cached_property
    def known_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """The concrete shape of every tensor."""
        return known_shapes(self.graph, self.shapes)

    @cached_property
    def cost(self) -> Cost:
        """Of one execution."""
        return graph.cost(self.graph, self.shapes)

    @cached_property
    def kernels(self) -> list[Kernel]:
        """In execution order, one for each row of :attr:`cost`."""
        return group_into_kernels(self.graph, self.known_shapes)

    @property
    def roots(self) -> list[tuple[str, Any]]:
        """The modules that were called, with their paths; none for a file."""
        return [] if self.network is None else list(self.network.roots)

    @property
    def policy(self) -> Policy | None:
        """Of the network; ``None`` for a file."""
        return None if self.network is None else self.network.policy

    @property
    def preset(self) -> str | None:
        """The name of the policy, where it is that of a precision."""
        policy = self.policy
        if policy is None:
            return None
        return next((name for name in PRESETS if Policy.preset(name) == policy), None)

    def variants(self) -> Iterator[tuple[str, Graph | TrtnetError]]:
        """The model in each other precision of :data:`VARIANTS`, or why it cannot be defined."""
        if self.model is None:
            return
        for name in VARIANTS:
            if name != self.preset:
                try:
                    yield name, _in_precision(self.model, name)
                except TrtnetError as error:
                    yield name, error


def _in_precision(model: LoadedModel, name: str) -> Graph:
    policy = Policy.preset(name)
    ranges = unit_ranges(model.define(policy)) if policy.uses(*QUANTIZED) else None
    return graph.read(model.define(policy, ranges))


def subject_of(
    given: Any, *, values: bool = False, observer: Observer | None = None, name: str | None = None
) -> Subject:
    """The subject that `given` is.

    Args:
        given: the name of a model (``"resnet50:fp16"``), the path of a saved graph, a
            :class:`trtnet.pipeline.Recipe`, a :class:`trtnet.pipeline.Target`, a
            :class:`trtnet.Network`, an ``INetworkDefinition``, a :class:`trtnet.graph.Graph`, or a
            subject, which is returned.
        values: whether the weights of a model matter; see :func:`trtnet.pipeline.find_target`.
        observer: receives the progress.
        name: what to call it; by default its own name.

    Raises:
        UsageError: neither a model nor a file, or a built engine.
    """
    if isinstance(given, Subject):
        return given
    if isinstance(given, Graph):
        return Subject(name or given.name or "network", given)
    if isinstance(given, Network):
        return Subject(name or "network", graph.read(given), network=given)
    if isinstance(given, str):
        model, precision = split_precision(given)
        name = name or given
        given = Recipe(model, precision=precision or "tf32")
    recipe = given if isinstance(given, Recipe) else None
    if isinstance(given, Recipe):
        values = values or given.weights is not None or given.calibration.data is not None
        given = find_target(given, values=values, observer=observer, name=name)
    if isinstance(given, Target):
        return _of_target(given, values, name, recipe)
    if hasattr(given, "num_layers"):
        return Subject(name or given.name or "network", graph.read(given))
    raise UsageError(
        "this is nothing that can be explored",
        expected="the name of a model, the path of a graph, a Recipe, a Network or a Graph",
        got=type(given).__name__,
    )


def _of_target(target: Target, values: bool, name: str | None, recipe: Recipe | None) -> Subject:
    defined = target.defined
    return Subject(
        name or target.name,
        target.graph,
        target.shapes,
        None if defined is None else defined.network,
        None if defined is None else defined.model,
        None if defined is None else recipe,
        values or defined is None,
    )

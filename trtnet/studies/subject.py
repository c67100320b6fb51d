"""What a study is of: a network, and how it is defined again in other precisions."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trtnet import graph
from trtnet.errors import UsageError
from trtnet.graph import Gpu, Graph
from trtnet.network import Network
from trtnet.pipeline import Recipe, SearchSettings, SearchSetup, find_target, set_up_search
from trtnet.pipeline.precision_suffix import split_precision
from trtnet.precision.policy import Explanation, Policy
from trtnet.precision.table import QUANTIZED
from trtnet.search import present_mix
from trtnet.search.data import Data
from trtnet.search.mixable_network import MixableNetwork
from trtnet.search.result import SearchResult

if TYPE_CHECKING:
    from trtnet.pipeline import Observer
    from trtnet.search.present_mix import PresentMix

_ANY_GPU = "l40s"  # a search needs one; without one named, its times are not told


@dataclass(frozen=True)
class Subject:
    """A network, and where it is from.

    Attributes:
        name: of the model or file.
        graph: of the network.
        shapes: of its inputs, where the graph does not tell.
        network: ``None`` for a file.
        mix: how it is defined again; ``None`` where the errors of its modules are not measured.
        data: what errors are measured on.
        about: what to know of its weights.
    """

    name: str
    graph: Graph
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    network: Network | None = None
    mix: PresentMix | None = None
    data: Data | None = None
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def policy(self) -> Policy | None:
        """The policy of the network, if it is known."""
        return None if self.network is None else self.network.policy

    @property
    def explanations(self) -> dict[str, Explanation]:
        """What the policy decides, by module path."""
        if self.network is None:
            return {}
        return {row.module: row for row in self.network.policy.explain(self.network)}

    @property
    def classes(self) -> dict[str, str]:
        """The class name of each module, by path."""
        if self.network is None:
            return {}
        return {
            path: type(module).__name__
            for prefix, root in self.network.roots
            for path, module in root.named_modules(prefix=prefix)
        }


def find_subject(
    subject: Any,
    *,
    policy: Policy | str | None,
    data: Any,
    items: int,
    gpu: Gpu | str | None,
    observer: Observer | None,
) -> Subject:
    """The network that `subject` is; see :func:`trtnet.study`."""
    asked = None
    wanted = Policy.preset(policy) if isinstance(policy, str) else policy
    if isinstance(subject, (str, Path)):
        asked = str(subject)
        name, precision = split_precision(asked)
        subject = Recipe(name, precision or "tf32")
    if isinstance(subject, Recipe):
        if wanted is not None:
            subject = dataclasses.replace(subject, precision=wanted)
        if data is None:
            return _of_recipe(subject, asked, observer, has_policy=wanted is not None)
        setup = _set_up(subject, data, items, gpu, observer)
        return _of_setup(setup, subject.policy, gpu)
    if isinstance(subject, SearchResult):
        given = subject.data if data is None else data
        return _of_mixable("", subject.subject, wanted or subject.policy, given, gpu, {})
    if isinstance(subject, SearchSetup) and data is None:
        return _of_setup(subject, wanted, gpu)
    if isinstance(subject, MixableNetwork):
        return _of_mixable("", subject, wanted, data, gpu, {})
    if wanted is not None or data is not None:
        raise _defined_already(subject)
    if isinstance(subject, Network):
        return _of_network(subject)
    if not isinstance(subject, Graph) and not hasattr(subject, "num_layers"):
        raise _nothing(subject)
    read = subject if isinstance(subject, Graph) else graph.read(subject)
    return Subject(read.name, read)


def _nothing(subject: Any) -> UsageError:
    fix = None
    if callable(getattr(subject, "named_modules", None)):
        fix = "study the network that it defines: net.output('y', model(net.input('x', shape)))"
    return UsageError(
        "this is nothing that can be studied",
        expected="a model's name, the path of a graph, a Recipe, a Network or a Graph",
        got=type(subject).__name__,
        fix=fix,
    )


def _defined_already(subject: Any) -> UsageError:
    return UsageError(
        "the precision and the data of this subject are settled already",
        got=type(subject).__name__,
        expected="a model's name, a Recipe or a MixableNetwork",
        fix="leave policy= and data= out, or study the model that it was made from",
    )


def _of_network(network: Network) -> Subject:
    notes = []
    if network.quantizer.is_observing:
        notes.append("without a calibration the network computes in float32, whatever the policy")
    about = {"notes": notes}
    return Subject("", graph.read(network.definition), network=network, about=about)


def _of_recipe(
    recipe: Recipe, name: str | None, observer: Observer | None, *, has_policy: bool
) -> Subject:
    """Without the values of weights: costs do not depend on them."""
    target = find_target(recipe, values=False, observer=observer, name=name)
    if target.defined is None:
        if has_policy:
            raise _defined_already(target.graph)
        return Subject(target.name, target.graph)
    model, network = target.defined.model, target.defined.network
    return Subject(target.name, target.graph, model.shapes.by_name, network)


def _set_up(
    recipe: Recipe, data: Any, items: int, gpu: Gpu | str | None, observer: Observer | None
) -> SearchSetup:
    policy = recipe.policy
    to = present_mix.lowered_to(policy)
    settings = SearchSettings(str(data), items, to, policy.base, gpu or _ANY_GPU)
    return set_up_search(recipe, settings, observer)


def _of_setup(setup: SearchSetup, policy: Policy | None, gpu: Gpu | str | None) -> Subject:
    about = {"weights": setup.weights, "random_weights": setup.random, "notes": [*setup.notes]}
    return _of_mixable(setup.name, setup.subject, policy, setup.data, gpu, about)


def _of_mixable(
    name: str,
    mixable: MixableNetwork,
    policy: Policy | None,
    data: Data | None,
    gpu: Gpu | str | None,
    about: Mapping[str, Any],
) -> Subject:
    if policy is None:
        raise UsageError(
            "a study of a network that can be defined in any precision needs a policy",
            fix="give policy=search(...).policy, or policy=Policy('fp16')",
        )
    if data is not None and not isinstance(data, Data):
        raise UsageError(
            "the data of a network that can be defined in any precision is a search.Data",
            got=type(data).__name__,
            fix="data=trtnet.search.load_data(source, network.in_fp32)",
        )
    mixable = dataclasses.replace(mixable, gpu=gpu or mixable.gpu)
    calibration = mixable.calibration if policy.uses(*QUANTIZED) else None
    network = mixable.define(policy, calibration)
    mix = None if data is None else present_mix.of(policy, mixable)
    read = graph.read(network.definition)
    return Subject(name or read.name, read, network=network, mix=mix, data=data, about=about)

"""study(): from a model or a network to its table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trtnet import graph
from trtnet.analysis.attribution import check_attribution
from trtnet.analysis.counting import known_shapes
from trtnet.errors import UsageError
from trtnet.finite import json_number
from trtnet.own_version import __version__
from trtnet.search.result import SearchResult
from trtnet.studies.errors import ModuleError, module_errors
from trtnet.studies.study import Study
from trtnet.studies.subject import Subject, find_subject

if TYPE_CHECKING:
    from trtnet.benchmark import LayerTime
    from trtnet.graph import Bound, Gpu
    from trtnet.pipeline import Observer
    from trtnet.precision.policy import Policy
    from trtnet.search.journal import SearchJournal

_HOW = {
    "producer": "a kernel's cost is that of its main layer",
    "consumer": "a kernel's cost is that of the layer whose output leaves it",
    "marginal": "each layer has what it adds to the kernel that it is fused into",
}


def study(
    subject: Any,
    *,
    policy: Policy | str | None = None,
    data: Any = None,
    items: int = 8,
    gpu: Gpu | str | None = None,
    profile: Sequence[LayerTime] = (),
    attribution: str = "producer",
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    observer: Observer | None = None,
) -> Study:
    """One table of a network: cost, bound, measured time, policy and error of each operation.

    Nothing is built and no GPU is needed; with `data`, networks run in the reference.

    Args:
        subject: a model's name, which may end in a precision (``"resnet50:fp16"``), or the path of
            a saved graph; a :class:`trtnet.pipeline.Recipe`; a :class:`trtnet.Network`, a
            :class:`trtnet.graph.Graph` or an ``INetworkDefinition``; or, with a `policy`, a
            :class:`trtnet.pipeline.SearchSetup` or a :class:`trtnet.search.MixableNetwork`.
            A :class:`trtnet.search.SearchResult` has its policy and data, and what it measured is
            not measured again: errors alone are those on the items that ranked the modules.
        policy: in place of the precision of `subject`, such as what :func:`trtnet.search.search`
            found.
        data: a folder of images, a ``.npy`` or ``.npz`` file, or ``"random"``; the error of each
            lowered module is measured on it. Of a ``MixableNetwork`` a
            :class:`trtnet.search.Data`; a ``SearchSetup`` has its own.
        items: how many items of the data to use at most, spread evenly.
        gpu: whose roofline gives times; a name of :func:`trtnet.graph.gpus`, or a ``Gpu``.
        profile: what :func:`trtnet.benchmark.profile` measured of an engine of this network.
        attribution: which layer gets the cost of a kernel that several share: ``"producer"``,
            ``"consumer"`` or ``"marginal"``; see docs/study.md. Totals are equal.
        shapes: of the inputs of a network with dynamic axes, for its cost.
        observer: receives the progress.

    Raises:
        UsageError: a subject, policy, data, GPU or attribution that cannot be used.

    >>> import trtnet
    >>> table = trtnet.study("lenet5:fp16", gpu="h200")
    >>> [(row["module"], row["op"], row["macs"]) for row in table.rows(depth=1)][:3]
    [('c1', None, 117600), ('tanh', None, 0), ('s2', None, 0)]
    """
    check_attribution(attribution)
    _check_profile(profile)
    found = find_subject(subject, policy=policy, data=data, items=items, gpu=gpu, observer=observer)
    given = dict(shapes or found.shapes)
    cost = graph.cost(found.graph, given)
    bound = None if gpu is None else cost.bound(gpu)
    about = _about(found, bound, attribution)
    errors: dict[str, ModuleError] = {}
    if found.mix is not None and found.data is not None:
        present, errors = module_errors(
            found.mix, found.data, timed=gpu is not None, journal=_measured_by(subject, found)
        )
        about |= {
            "items": found.data.items,
            "data_sha256": found.data.sha256,
            "error2": present.rel_l2**2,
            "sqnr_db": json_number(present.sqnr_db),
        }
    return Study(
        about=about,
        graph=found.graph,
        shapes=known_shapes(found.graph, given),
        cost=cost,
        bound=bound,
        policy=found.policy,
        explanations=found.explanations,
        classes=found.classes,
        errors=errors,
        profile=tuple(profile),
        attribution=attribution,
    )


def _check_profile(profile: Sequence[LayerTime]) -> None:
    from trtnet.benchmark import LayerTime

    for layer in profile:
        if not isinstance(layer, LayerTime):
            raise UsageError(
                "this is no measured time of a layer",
                expected="what benchmark.profile returns",
                got=type(layer).__name__,
                fix="trtnet explore MODEL --profile FILE (explorer.write(profile=)) takes files",
            )


def _measured_by(subject: Any, found: Subject) -> SearchJournal | None:
    """What a search has measured, if it was of the policy that is studied, on the same data and
    with the times of the same GPU."""
    if not isinstance(subject, SearchResult) or found.mix is None:
        return None
    same = (
        found.mix.given == subject.policy
        and found.data is subject.data
        and found.mix.ceilings == subject.subject.ceilings
    )
    return subject.journal if same else None


def _about(found: Subject, bound: Bound | None, attribution: str) -> dict[str, Any]:
    """What to know of the figures, as JSON values."""
    gpu = None if bound is None else bound.gpu
    return {
        "name": found.name,
        "trtnet": __version__,
        "shapes": {name: [*shape] for name, shape in found.shapes.items()},
        "policy": None if found.policy is None else found.policy.as_dict(),
        "gpu": None if gpu is None else gpu.key,
        "gpu_name": None if gpu is None else gpu.name,
        "gpu_source": None if gpu is None else gpu.source,
        "attribution": attribution,
        "attribution_means": _HOW[attribution],
        "items": None,
        "data_sha256": None,
        "error2": None,
        "sqnr_db": None,
        "notes": [],
        **found.about,
    }

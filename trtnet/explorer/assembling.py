"""The document: everything that a page shows, as JSON values; docs/explorer.md describes it."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trtnet import graph
from trtnet.errors import TrtnetError
from trtnet.explorer.columns import transposed
from trtnet.explorer.comparison import comparison
from trtnet.explorer.costs import (
    call_paths,
    gpu_figures,
    kernel_numbers,
    known_gpus,
    variant,
)
from trtnet.explorer.engines import Engine, engine_json
from trtnet.explorer.gaps import gaps
from trtnet.explorer.memory import memory
from trtnet.explorer.modules import ModuleTree, classes_of
from trtnet.explorer.precisions import decisions, policy_json
from trtnet.explorer.provenance import provenance
from trtnet.explorer.structure import layer_columns, tensor_columns
from trtnet.explorer.subject import Subject
from trtnet.explorer.tables import study_columns
from trtnet.explorer.trials import Measured, errors_alone, trials_json
from trtnet.graph import Gpu
from trtnet.records import Row
from trtnet.studies.errors import ModuleError
from trtnet.studies.study import Study
from trtnet.version import __version__

FORMAT = "trtnet.explorer 1"
DEFAULT_GPU = "h200"
_TIMES = (
    "Measured times are those of a file, which does not say on which GPU, nor how much they vary."
)


@dataclass(frozen=True)
class Extras:
    """What is known of the first network beside itself.

    Attributes:
        search: measurements of a search; ``None`` for none.
        engine: of the network; ``None`` where nothing is known of it.
        errors: of its modules, measured by a study; empty for none.
        data: what they were measured on.
    """

    search: Measured | None = None
    engine: Engine | None = None
    errors: Mapping[str, ModuleError] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)


def document(
    subject: Subject,
    other: Subject | None = None,
    *,
    gpu: Gpu | str = DEFAULT_GPU,
    command: str = "",
    extras: Extras | None = None,
) -> dict[str, Any]:
    """What a page shows of `subject`, or of `subject` and `other` side by side.

    Args:
        subject: the network.
        other: another one, to compare it with.
        gpu: the GPU that is shown first: a name of :func:`trtnet.graph.gpus`, or a ``Gpu``.
        command: makes the page again.
        extras: what else is known of `subject`.

    Raises:
        UsageError: there is no such GPU.
        ShapeError: a network whose cost depends on shapes that are not known.
    """
    chosen = graph.find_gpu(gpu)
    subjects = [subject] if other is None else [subject, other]
    known = extras or Extras()
    built = [_build(one, known if one is subject else Extras(), chosen) for one in subjects]
    title = " and ".join(one.name for one in subjects)
    return {
        "format": FORMAT,
        "title": title,
        "command": command,
        "made_by": {"trtnet": __version__, "python": platform.python_version()},
        "gpus": gpu_figures(known_gpus(chosen).values()),
        "start": {"gpu": chosen.key, "variant": 0},
        "builds": [build for build, _ in built],
        "comparison": None if other is None else comparison(
            subject, other, (built[0][1], built[1][1])),
    }  # fmt: skip


def _build(subject: Subject, extras: Extras, gpu: Gpu) -> tuple[dict[str, Any], ModuleTree]:
    """One network, and the tree of its modules."""
    read, known = subject.graph, subject.known_shapes
    found = list(subject.variants())
    others = [(name, one) for name, one in found if not isinstance(one, TrtnetError)]
    notes = list(subject.notes)
    if extras.engine is not None and any(one.seconds is not None for one in extras.engine.layers):
        notes.append(_TIMES)
    notes += [
        f"{name} is not offered: {one.problem}" for name, one in found
        if isinstance(one, TrtnetError)
    ]  # fmt: skip
    tree = ModuleTree(classes_of(subject.roots), call_paths([read, *(one for _, one in others)]))
    decided, tensors = decisions(subject), {name: row for row, name in enumerate(read.tensors)}
    table = _study(subject, extras, gpu).rows()
    build = {
        "name": subject.name,
        "kind": "graph" if subject.network is None else "model",
        "inputs": [tensors[name] for name in read.inputs],
        "outputs": [tensors[name] for name in read.outputs],
        "modules": tree.columns(decided.explained, decided.entries),
        "layers": layer_columns(read, tree, kernel_numbers(subject.cost)),
        "tensors": tensor_columns(read, known),
        "variants": [
            _own_variant(subject, tree),
            *(_variant(subject, tree, *one) for one in others),
        ],
        "precision": _precision(subject, extras, tree, gpu),
        "memory": memory(read, known, subject.kernels, tree),
        "engine": None if extras.engine is None else engine_json(extras.engine, subject, tree, gpu),
        "study": study_columns(table, read, tree, extras.data),
        "lint": _lint(subject),
        "gaps": gaps(subject.cost, tree, _times(table), gpu),
        "notes": notes,
        "provenance": provenance(subject),
    }
    return build, tree


def _own_variant(subject: Subject, tree: ModuleTree) -> dict[str, Any]:
    policy, preset = subject.policy, subject.preset
    name = preset or (None if policy is None else policy.compute)
    label = f"{name} (as asked for)" if preset else "as it is"
    return variant(preset or "given", label, name, subject.graph, subject.cost, tree)


def _variant(subject: Subject, tree: ModuleTree, name: str, read: graph.Graph) -> dict[str, Any]:
    return variant(name, name, name, read, graph.cost(read, subject.shapes), tree)


def _precision(
    subject: Subject, extras: Extras, tree: ModuleTree, gpu: Gpu
) -> dict[str, Any] | None:
    found = policy_json(subject, _zoo_command(subject))
    if extras.search is None:
        return found
    return {**(found or {}), **trials_json(extras.search, subject, tree, gpu)}


def _times(table: list[Row]) -> dict[str, float]:
    """The measured seconds by name of a layer: the least, as in the gap of a study, or else the
    median."""
    return {
        row["layer"]: row["time_s"] if row["min_s"] is None else row["min_s"]
        for row in table
        if row["layer"] is not None and row["time_s"] is not None
    }


def _study(subject: Subject, extras: Extras, gpu: Gpu) -> Study:
    """A study of `subject`, with what was measured."""
    read, policy, network = subject.graph, subject.policy, subject.network
    names = [layer.name for layer in read.layers]
    errors = extras.errors
    if not errors and extras.search is not None:
        errors = errors_alone(extras.search, subject)
    explained = [] if policy is None or network is None else policy.explain(network)
    return Study(
        about={},
        graph=read,
        shapes=subject.known_shapes,
        cost=subject.cost,
        bound=subject.cost.bound(gpu) if extras.engine is not None else None,
        policy=policy,
        explanations={row.module: row for row in explained},
        classes=classes_of(subject.roots),
        errors=errors,
        profile=() if extras.engine is None else tuple(extras.engine.profile(names)),
        attribution="producer",
    )


def _lint(subject: Subject) -> dict[str, list[Any]]:
    rows = {layer.name: row for row, layer in enumerate(subject.graph.layers)}
    found = graph.lint(subject.graph)
    return transposed(
        ("code", "layer", "message", "fix"),
        [(one.code, rows.get(one.layer, -1), one.message, one.fix) for one in found],
    )


def _zoo_command(subject: Subject) -> str:
    model = "MODEL" if subject.model is None else subject.model.entry.name
    return f"trtnet zoo {model} --policy policy.toml"

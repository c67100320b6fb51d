"""The recipes of a network's weights, as its sidecar keeps them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import numpy as np

from trtnet.dtypes import dtype_of, to_storage
from trtnet.errors import BuildError, UsageError
from trtnet.graph import Graph
from trtnet.names import nearest
from trtnet.recipes.evaluation import evaluate, key_array
from trtnet.recipes.steps import KEY, RANGE, Placed, Step
from trtnet.weights.container import raw_bytes
from trtnet.weights.places import entries

if TYPE_CHECKING:
    from trtnet.network import Network
    from trtnet.recipes.ledger import Ledger


def stated_recipes(
    network: Network, graph: Graph, only: Sequence[str] = (), stripped: bool = False
) -> dict[str, Any]:
    """The entry ``refit`` of the sidecar, as JSON values. Every recipe is followed once, and gives
    the bits that are in the network.

    Args:
        network: finished.
        graph: `network`, read back.
        only: patterns of the keys whose weights may be replaced; none for all.
        stripped: whether the engine is without those weights.

    Raises:
        UsageError: two models have a key in common; a pattern that no key matches.
        BuildError: a recipe that does not give the weight it is of, which is a mistake in trtnet.
    """
    ledger = network.ledger
    if ledger.clashes:
        raise UsageError(
            "an engine that is refitted by keys needs keys that mean one thing",
            got=f"{sorted(ledger.clashes)[0]} in two models, or with two values",
            fix='call each model inside of "with network.scope(NAME):"',
        )
    ledger.settle()
    numbers, steps = _renumbered(ledger)
    known = {key: entry for path, root in network.roots for key, entry in entries(root, path)}
    keys = {key: _key(ledger, key, entry, numbers) for key, entry in known.items()}
    names = _weights_names(ledger)
    weights = [_weight(weight, graph, numbers, names) for weight in ledger.placed]
    _mark(weights, steps, keys, only)
    _follow(steps, weights, known, keys, graph)
    return {
        "keys": keys,
        "ignored": [
            f"{path}.{pattern}".lstrip(".")
            for prefix, root in network.roots
            for path, owner in root.named_modules(prefix=prefix, remove_duplicate=False)
            for pattern in owner.ignored_keys
        ],
        "roots": [f"{path}." if path else "" for path, _ in network.roots],
        "steps": [step.as_json() for step in steps],
        "weights": weights,
        "stripped": stripped,
    }


def name_weights(network: Network, stated: Mapping[str, Any], individual: bool) -> None:
    """Gives the weights of the definition the names by which TensorRT's Refitter finds them.

    Args:
        stated: what :func:`stated_recipes` gave.
        individual: mark each that may be replaced, for an engine in which the others may not.

    Raises:
        BuildError: TensorRT refuses a name.
    """
    backend = network.backend
    for (layer, role), name in refittable(stated).items():
        weights, _ = network.ledger.buffers[layer, role]
        if name == f"{layer} {role}" and not network.definition.set_weights_name(weights, name):
            raise BuildError("TensorRT refuses the name of a weight", module=layer,
                             got=backend.take_errors() or name)  # fmt: skip
        if individual and not network.definition.mark_weights_refittable(name):
            raise BuildError("TensorRT cannot refit a weight", module=layer,
                             got=backend.take_errors() or name)  # fmt: skip


def _weights_names(ledger: Ledger) -> dict[tuple[str, str], str]:
    """What a builder calls each weight: its layer and role, or those of the first weight in the
    same memory, by which TensorRT tells them apart."""
    first: dict[int, str] = {}
    return {
        (weight.layer, weight.role): first.setdefault(
            ledger.buffers[weight.layer, weight.role][1], f"{weight.layer} {weight.role}"
        )
        for weight in ledger.placed
    }


def refittable(stated: Mapping[str, Any]) -> dict[tuple[str, str], str]:
    """Layer and role of the weights that may be replaced, to what TensorRT's builder calls them.

    Args:
        stated: what :func:`stated_recipes` gave.
    """
    return {
        (weight["layer"], weight["role"]): weight["weights_name"]
        for weight in stated["weights"]
        if weight["refittable"]
    }


def digest(array: np.ndarray) -> str:
    """The SHA-256 of the bytes of an array."""
    return hashlib.sha256(raw_bytes(array)).hexdigest()


def _renumbered(ledger: Ledger) -> tuple[dict[int, int], list[Step]]:
    """The steps that lead to the weights and to keys that share memory, and their new numbers."""
    wanted = [*(weight.step for weight in ledger.placed), *ledger.ties.values()]
    kept = sorted(ledger.sources(wanted))
    numbers = {old: new for new, old in enumerate(kept)}
    steps = [ledger.steps[old] for old in kept]
    moved = [
        Step(step.op, tuple(None if s is None else numbers[s] for s in step.of), step.options)
        for step in steps
    ]
    return numbers, moved


def _key(ledger: Ledger, key: str, entry: Any, numbers: Mapping[int, int]) -> dict[str, Any]:
    number = ledger.keys.get(key)
    step = None if number is None else ledger.steps[number]
    tied = ledger.ties.get(key)
    strides = None if step is None else step.options.get("strides")
    dtype = _dtype(entry)
    found: dict[str, Any] = {
        "shape": [int(size) for size in entry.shape],
        "dtype": dtype,
        "optional": bool(entry.optional),
        "used": tied is not None or number in numbers,
    }
    if entry.has_values and (array := entry.memory) is not None:
        found["sha256"] = digest(key_array(array, dtype, None))
    if getattr(entry, "tensor", None) is not None:
        found["rounds"] = True
    if strides is not None:
        found["strides"] = strides
    if tied is not None:
        found["tied"] = numbers[tied]
    if key in ledger.lost:
        found["lost"] = ledger.lost[key]
    return found


def _dtype(entry: Any) -> str:
    tensor = getattr(entry, "tensor", None)
    if tensor is not None:
        return str(tensor.dtype).removeprefix("torch.")
    array = entry.memory
    return "float32" if array is None else str(array.dtype.name)


def _weight(
    weight: Placed,
    graph: Graph,
    numbers: Mapping[int, int],
    names: Mapping[tuple[str, str], str],
) -> dict[str, Any]:
    layers = [layer for layer in graph.layers if layer.name == weight.layer]
    if len(layers) != 1 or weight.role not in layers[0].weights:
        raise BuildError(
            "a weight of the network was not found again, so the engine cannot be refitted",
            module=weight.layer,
            fix="build it without refit (--refit), and report this",
        )
    shape = layers[0].weights[weight.role].shape
    return {**weight.as_json(), "step": numbers[weight.step], "shape": list(shape),
            "weights_name": names[weight.layer, weight.role], "refittable": True}  # fmt: skip


def _mark(
    weights: Sequence[dict[str, Any]],
    steps: Sequence[Step],
    keys: Mapping[str, Any],
    only: Sequence[str],
) -> None:
    """Notes which weights may be replaced: those of which a key matches one of `only`."""
    for pattern in only:
        if not any(fnmatchcase(key, pattern) for key in keys):
            near = nearest(pattern, keys)
            raise UsageError(
                f"--refit-individual {pattern!r} (refit_individual) matches no key",
                expected=f"a pattern of keys such as {near[0] if near else next(iter(keys), '')}",
            )
    for weight in weights if only else ():
        sources = keys_of(steps, weight["step"])
        weight["refittable"] = any(fnmatchcase(key, p) for key in sources for p in only)


def keys_of(steps: Sequence[Step], number: int) -> set[str]:
    """The keys that the step `number` depends on."""
    waiting, seen = [number], set()
    while waiting:
        current = waiting.pop()
        if current not in seen:
            seen.add(current)
            waiting += [source for source in steps[current].of if source is not None]
    return {str(steps[n].options["key"]) for n in seen if steps[n].op == KEY}


def has_range(steps: Sequence[Step]) -> bool:
    """Whether a step takes a range of the calibration."""
    return any(step.op == RANGE for step in steps)


def _follow(
    steps: Sequence[Step],
    weights: Sequence[Mapping[str, Any]],
    known: Mapping[str, Any],
    keys: Mapping[str, Mapping[str, Any]],
    graph: Graph,
) -> None:
    """Checks that the recipes give what is in the network."""
    layers = {layer.name: layer for layer in graph.layers}
    by_step: dict[int, list[Mapping[str, Any]]] = {}
    for weight in weights:
        by_step.setdefault(weight["step"], []).append(weight)
    ranges = {s.options["tensor"]: s.options["amax"] for s in steps if s.op == RANGE}

    def values(key: str) -> np.ndarray:
        return key_array(known[key].memory, keys[key]["dtype"], keys[key].get("strides"))

    for number, array in evaluate(steps, by_step, values, ranges.__getitem__):
        for weight in by_step[number]:
            held = layers[weight["layer"]].weights[weight["role"]]
            found = to_storage(array, dtype_of(weight["dtype"]))
            if found.size != held.size or raw_bytes(found) != raw_bytes(held):
                raise BuildError(
                    "the recipe of a weight does not give its values, so the engine could not be "
                    "refitted",
                    module=weight["layer"],
                    got=weight["role"],
                    fix="build it without refit (--refit), and report this",
                )

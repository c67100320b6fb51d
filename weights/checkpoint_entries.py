"""Where in a checkpoint the weights are: training scripts save them beside much else."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from trtnet.errors import WeightsError
from trtnet.weights import prefixes
from trtnet.weights.places import Place, shape_of

_DEEPEST = 5
_MOST = 8  # how many names a message lists
_RAW = frozenset(
    ("state_dict", "model_state_dict", "model_state", "model", "model_weights", "module",
     "net", "net_state_dict", "network", "network_state_dict", "params", "weights")
)  # fmt: skip
_AVERAGED = re.compile(r"(^|[_.])(ema|swa|averaged|avg)([_.]|$)")
_MMENGINE = "message_hub"  # its checkpoints have the averages under state_dict
_OTHER = re.compile("optim|sched|scaler|rng|callback|loops", re.IGNORECASE)  # never a model


@dataclass(frozen=True)
class Taken:
    """The entry of a checkpoint that was taken.

    Attributes:
        state: the state_dict in it.
        notes: what was taken and what not, in words.
        record: the same for the metadata; ``None`` where there was no choice.
    """

    state: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    record: str | None = None


def choose(
    loaded: Mapping[Any, Any],
    key: str | None,
    places: Mapping[str, Place] | None,
    what: str,
) -> Taken | None:
    """The state_dict in a checkpoint; ``None`` where it holds none.

    Of several the one counts that fits the model; of those that fit, or where no model is known,
    the averaged one (``state_dict_ema``, ``params_ema``), as timm and BasicSR load it, then the
    one under a usual name.

    Args:
        loaded: what the checkpoint holds.
        key: name of the entry to take, such as ``"state_dict_ema"`` or ``"ema.model"``, or prefix
            of the keys to take.
        places: what the model wants, if it is known.
        what: the file, for messages.

    Raises:
        WeightsError: there is nothing called `key`, or a choice that nothing decides.
    """
    found = dict(_state_dicts(loaded))
    if key is not None:
        return _named(found, key, what)
    if not found:
        return None
    left = _fitting(found, places, what) if places and len(found) > 1 else found
    name = next(iter(left)) if len(left) == 1 else _usual(left, _MMENGINE in loaded)
    if name is None:
        raise WeightsError(
            f"{what} holds several sets of weights",
            expected="one, or the name of the one to take",
            got=", ".join(f"{name} ({plural_tensors(state)})" for name, state in left.items()),
            fix=f"name one: --weights-key {next(iter(left))}, in Python "
            f"trtnet.weights.load(path, key={next(iter(left))!r})",
        )
    others = [other for other in found if other != name]
    if not others:
        return Taken(found[name], (f"taken from its entry {name}",) if name else ())
    kind = ", the averaged weights" if _AVERAGED.search(name) else ""
    shown = prefixes.shortened(others, _MOST)
    note = f"taken from its entry {name}{kind}; --weights-key {others[0]} takes the other"
    if len(others) > 1:
        note = f"taken from its entry {name}{kind}; --weights-key takes another: {shown}"
    return Taken(found[name], (note,), f"{name} (not {shown})")


def plural_tensors(state: Mapping[str, Any]) -> str:
    """``1 tensor``, ``2 tensors``."""
    return f"{len(state):,} tensor{'' if len(state) == 1 else 's'}"


def _state_dicts(
    value: Mapping[Any, Any], path: str = "", seen: set[int] | None = None
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every mapping of tensors with its path. Tensors beside such a mapping, as the state of random
    numbers, are not one themselves."""
    seen = set() if seen is None else seen
    if id(value) in seen or path.count(".") >= _DEEPEST:
        return
    seen.add(id(value))
    below = False
    for name, inner in value.items():
        if isinstance(name, str) and isinstance(inner, Mapping) and not _OTHER.search(name):
            for found in _state_dicts(inner, f"{path}.{name}" if path else name, seen):
                below = True
                yield found
    if not below and _holds_tensors(value):
        yield path, value


def _holds_tensors(value: Mapping[Any, Any]) -> bool:
    keys = all(isinstance(key, str) for key in value)
    return keys and any(hasattr(entry, "untyped_storage") for entry in value.values())


def _named(found: Mapping[str, Mapping[str, Any]], key: str, what: str) -> Taken:
    """The entry, or the part of an entry, that is called `key`."""
    if key in found:
        return Taken(found[key], (f"taken from its entry {key}",))
    below = {name: state for name, state in found.items() if name.startswith(f"{key}.")}
    if len(below) == 1:
        name, state = next(iter(below.items()))
        return Taken(state, (f"taken from its entry {name}",))
    for name in sorted(found, key=len, reverse=True):
        if name and not key.startswith(f"{name}."):
            continue
        behind = prefixes.selected(found[name], key[len(name) + 1 :] if name else key)
        if behind:
            state = {new: found[name][old] for old, new in behind.items()}
            return Taken(state, (f"{prefixes.plural(len(state))} behind `{key}.` taken",))
    for state in found.values():  # a prefix within the only entry, without the entry's name
        behind = prefixes.selected(state, key)
        if behind and len(found) == 1:
            taken = {new: state[old] for old, new in behind.items()}
            return Taken(taken, (f"{prefixes.plural(len(taken))} behind `{key}.` taken",))
    raise unknown(key, [name for name in found if name], found, what)


def unknown(
    key: str, names: list[str], found: Mapping[str, Mapping[str, Any]], what: str
) -> WeightsError:
    """An error: nothing in the file is called `key`."""
    starts = {start for state in found.values() for start in _first_names(state)}
    listed = [*names, *sorted(starts - set(names))]
    return WeightsError(
        f"{what} has no weights called {key!r}",
        expected="the name of an entry, or what keys begin with: "
        + prefixes.shortened(listed, _MOST),
        got=key,
        fix="leave --weights-key (key=) out, or name one of them",
    )


def _first_names(state: Mapping[str, Any]) -> set[str]:
    return {str(key).partition(".")[0] for key in state}


def _fitting(
    found: Mapping[str, Mapping[str, Any]], places: Mapping[str, Place], what: str
) -> Mapping[str, Mapping[str, Any]]:
    """Those that have all that the model needs, and if possible in its shapes."""
    whole, exact = {}, {}
    for name, state in found.items():
        shapes = {key: shape_of(value) for key, value in state.items()}
        try:
            names = prefixes.find(shapes, places, False, what).names
        except WeightsError:  # several prefixes fit: an error only if this entry is taken
            whole[name] = exact[name] = state
            continue
        held = {new: shapes[old] for old, new in names.items()}
        if all(key in held for key, place in places.items() if not place.optional):
            whole[name] = state
            if all(places[key].takes(held[key]) for key in places if key in held):
                exact[name] = state
    return exact or whole or found


def _usual(found: Mapping[str, Any], mmengine: bool) -> str | None:
    """The entry that is taken where several would do; ``None`` where nothing says which."""
    averaged = [name for name in found if _AVERAGED.search(name)]
    if mmengine and "state_dict" in found and averaged == ["ema_state_dict"]:
        return "state_dict"
    known = averaged or [name for name in found if name.rpartition(".")[2] in _RAW]
    return known[0] if len(known) == 1 else None

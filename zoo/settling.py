"""Arguments of a model that the shapes of its weights reveal, such as the number of classes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from trtnet.errors import TrtnetError, WeightsError
from trtnet.module import Module
from trtnet.weights.container import Weights
from trtnet.weights.loading import fitted
from trtnet.weights.places import wanted
from trtnet.zoo.entry import Entry, Undecided

Shape = tuple[int, ...]
Difference = tuple[str, Shape, Shape]  # key, shape in the model, shape in the weights

_MOST_BUILT = 12  # models that are made to try an argument
_UNSTATED = ("num_classes", None)  # of other libraries' models: the default is the library's
_FLAGS = ("num_classes", "image_size", "in_channels")  # arguments that commands have flags for


@dataclass(frozen=True)
class Settled:
    """A model of the size of its weights.

    Attributes:
        module: whose shapes the weights have.
        weights: under the model's keys.
        arguments: of its builder.
        notes: which of them the shapes told, in words.
    """

    module: Module
    weights: Weights
    arguments: dict[str, Any]
    notes: tuple[str, ...] = ()


def settle(
    entry: Entry, module: Module, weights: Weights, arguments: Mapping[str, Any], given: set[str]
) -> Settled:
    """Makes `module` again where `weights` tell arguments of its builder that nobody has chosen
    (:attr:`Entry.telling`), and where one such argument explains why they have other shapes. The
    latter is done where only the sizes of outputs change: the number of classes. What would change
    the input is left to the user.

    Args:
        entry: of the model.
        module: made of `arguments`.
        weights: from a file; their keys are fitted to the module's.
        arguments: of the builder.
        given: names of arguments that the user has chosen.

    Raises:
        WeightsError: several prefixes of the keys fit; one argument that may not be changed here
            explains the shapes: the error names it with its value; several values of an argument
            fit, and nobody has chosen one.
    """
    chosen, notes = _told(entry, weights, arguments, given)
    module = entry.build(**chosen) if notes else module
    weights = fitted(weights, module)
    while wrong := _differences(module, weights):
        found = _explained(entry, chosen, weights, wrong)
        if found is None:
            break
        name, value, made = found
        key, old, new = wrong[0]
        if name in given or not _only_outputs(wrong):
            raise _says(entry, weights, name, value, wrong[0])
        chosen[name], module = value, made
        notes.append(f"{name}={value}, as {key} has the shape {new} in place of {old}")
    return Settled(module, weights, chosen, tuple(notes))


def _told(
    entry: Entry, weights: Weights, arguments: Mapping[str, Any], given: set[str]
) -> tuple[dict[str, Any], list[str]]:
    """The arguments with those that the names and shapes of `weights` tell outright, and notes of
    what was changed."""
    shapes = {key: array.shape for key, array in weights.items()}
    told = entry.telling(shapes) if entry.telling is not None else {}
    known = {**entry.defaults, **arguments}
    for name, value in told.items():
        if isinstance(value, Undecided) and known[name] not in value.values and name not in given:
            raise _undecided(entry, weights, name, value)
    told = {name: value for name, value in told.items() if not isinstance(value, Undecided)}
    changed = {
        name: value for name, value in told.items() if name not in given and known[name] != value
    }
    notes = [f"{name}={value}, as names and shapes of the weights tell"
             for name, value in changed.items()]  # fmt: skip
    return {**arguments, **changed}, notes


def _undecided(entry: Entry, weights: Weights, name: str, found: Undecided) -> WeightsError:
    each = [f"{name}={value}" for value in found.values]
    return WeightsError(
        f"the weights in {weights.source} fit several values of {name}",
        module=entry.name,
        expected=" or ".join(each),
        got="shapes that are the same for all",
        fix="say which in a file of your own, and name it in place of the model (own.py:make): "
        f"def make(): return trtnet.zoo.get_model({entry.name!r}, {each[0]}, ...)",
    )


def _differences(module: Module, weights: Weights) -> list[Difference]:
    return [
        (key, place.shape, weights[key].shape)
        for key, place in wanted(module).items()
        if key in weights and not place.takes(weights[key].shape, weights.flat)
    ]


def _explained(
    entry: Entry, arguments: Mapping[str, Any], weights: Weights, wrong: list[Difference]
) -> tuple[str, int, Module] | None:
    """The argument, its value and the model of it that has the fewest other shapes, if they are
    fewer than those that are `wrong`."""
    best, fewest = None, len(wrong)
    for count, (name, value) in enumerate(_candidates(entry, arguments, weights, wrong)):
        if count == _MOST_BUILT or not fewest:
            break
        try:
            made = entry.build(**{**arguments, name: value})
        except TrtnetError:  # a value that the builder does not take
            continue
        left = len(_differences(made, weights))
        if left < fewest:
            best, fewest = (name, value, made), left
    return best


def _candidates(
    entry: Entry, arguments: Mapping[str, Any], weights: Weights, wrong: list[Difference]
) -> Iterator[tuple[str, int]]:
    """Arguments with values that the sizes in `wrong` may come from, the most likely first: the
    number of classes that `weights` state, then what the sizes tell."""
    sizes = list(dict.fromkeys(
        pair for _, old, new in wrong for pair in _pairs(old, new) if pair[0] != pair[1]
    ))  # fmt: skip
    seen: set[tuple[str, int]] = set()
    numbers = {
        name: arguments.get(name, default)
        for name, default in entry.defaults.items()
        if type(arguments.get(name, default)) is int or (name, default) == _UNSTATED
    }
    stated, classes = weights.num_classes, _UNSTATED[0]
    if stated is not None and classes in numbers and stated != numbers[classes]:
        seen.add((classes, stated))
        yield classes, stated
    for equal in (True, False):
        for name, number in numbers.items():
            for old, new in sizes:
                for value in _values(number, old, new):
                    if (old == number) == equal and value > 0 and (name, value) not in seen:
                        seen.add((name, value))
                        yield name, value


def _pairs(old: Shape, new: Shape) -> Iterator[tuple[int, int]]:
    if len(old) == len(new):
        yield from zip(old, new, strict=True)
    elif len(new) == 1:  # flat: the sizes share the rest
        rest = math.prod(old[1:]) or 1
        if old and new[0] % rest == 0:
            yield old[0], new[0] // rest


def _values(number: int | None, old: int, new: int) -> Iterator[int]:
    """What `number` may be where a size `old` that comes from it is `new`: in proportion, or in
    proportion to the root, as the number of patches is to the size of an image."""
    if number is None:
        yield new
        return
    if number <= 0 or old <= 0:
        return
    if number * new % old == 0:
        yield number * new // old
    for extra in (1, 0):  # with a class token, without
        if old > extra and new > extra:
            root = number * math.sqrt((new - extra) / (old - extra))
            if math.isclose(root, round(root), rel_tol=1e-9):
                yield round(root)


def _only_outputs(wrong: list[Difference]) -> bool:
    """Whether only the numbers of outputs differ, which the first axis counts."""
    return all(old[1:] == new[1:] or len(new) == 1 for _, old, new in wrong)


def _says(
    entry: Entry, weights: Weights, name: str, value: int, difference: Difference
) -> WeightsError:
    key, old, new = difference
    flag = f"--{name.replace('_', '-')} {value}, in Python {name}={value}"
    return WeightsError(
        f"the weights in {weights.source} are those of {name}={value}",
        module=entry.name,
        expected=f"{key} of the shape {old}",
        got=new,
        fix=flag if name in _FLAGS else f"make the model with {name}={value}",
    )

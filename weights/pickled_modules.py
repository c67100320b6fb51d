"""The state_dict of a ``torch.nn.Module`` that was pickled as a whole, from its attributes."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from trtnet.weights.pickle_stubs import Stub

_DEEPEST = 100  # modules inside of each other
_MOST = 100_000  # modules of one model; one that is used twice counts twice, as in a state_dict
_LEVELS = 6  # of dicts around modules
_PARTS = ("_parameters", "_buffers", "_modules")


class ModuleState(dict[str, Any]):
    """The state_dict of a pickled module: tensors by key, in PyTorch's order.

    Attributes:
        classes: how many modules are of each class.
        attributes: of the module itself.
    """

    def __init__(self, state: Mapping[str, Any], classes: Counter[str],
                 attributes: Mapping[str, Any]) -> None:  # fmt: skip
        super().__init__(state)
        self.classes, self.attributes = classes, attributes


def unfolded(loaded: Any, torch: Any) -> Any:
    """`loaded` with a :class:`ModuleState` in the place of every module in it or in its dicts.

    Raises:
        pickle.UnpicklingError: a module whose parts are not those of a module.
    """
    return _Unfolding(torch).of(loaded, 0)


class _Unfolding:
    """Each object is unfolded once: a checkpoint may refer to one any number of times."""

    def __init__(self, torch: Any) -> None:
        self.torch = torch
        self.done: dict[int, Any] = {}

    def of(self, value: Any, level: int) -> Any:
        """`value`, at `level` dicts inside of the checkpoint."""
        if id(value) in self.done:
            return self.done[id(value)]
        attributes = _attributes(value, self.torch)
        if attributes is not None:
            made = self.done[id(value)] = self.state(value, attributes)
            return made
        if not isinstance(value, dict) or level == _LEVELS:
            return value
        result: dict[Any, Any] = {}
        self.done[id(value)] = result  # before its entries, one of which may be `value` itself
        result.update((name, self.of(inner, level + 1)) for name, inner in value.items())
        return result

    def state(self, module: Any, attributes: Mapping[str, Any]) -> ModuleState:
        """The state_dict of a module."""
        state: dict[str, Any] = {}
        classes: Counter[str] = Counter()
        for path, owner in _modules(module, self.torch):
            classes[owner.path if isinstance(owner, Stub) else _path(type(owner))] += 1
            for name, tensor in _own(owner, path, self.torch):
                if name in state:
                    raise pickle.UnpicklingError(f"Can only hold one tensor under {name!a}")
                state[name] = tensor
        return ModuleState(state, classes, attributes)


def _path(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _attributes(value: Any, torch: Any) -> Mapping[str, Any] | None:
    """What a module holds; ``None`` for anything else. A class that the user's program has named
    safe is no stand-in."""
    if isinstance(value, Stub):
        held: Mapping[str, Any] = value.state
    elif isinstance(value, torch.nn.Module):
        held = vars(value)
    else:
        return None
    return held if all(isinstance(held.get(part), dict) for part in _PARTS) else None


def _modules(module: Any, torch: Any) -> Iterator[tuple[str, Any]]:
    """`module` and all in it with their paths, in PyTorch's order."""
    left: list[tuple[str, int, Any]] = [("", 0, module)]
    count = 0
    while left:
        path, depth, owner = left.pop()
        attributes = _attributes(owner, torch)
        count += 1
        if attributes is None or depth > _DEEPEST or count > _MOST:
            what = type(owner).__name__ if attributes is None else "too many inside of each other"
            raise pickle.UnpicklingError(f"Can only hold modules in a module, but got {what}")
        yield path, owner
        inner = attributes["_modules"].items()
        left += [(_join(path, name), depth + 1, made) for name, made in reversed(inner)
                 if made is not None]  # fmt: skip


def _own(module: Any, path: str, torch: Any) -> Iterator[tuple[str, Any]]:
    """The parameters and persistent buffers of one module, with their keys."""
    attributes = _attributes(module, torch)
    assert attributes is not None  # `_modules` has looked
    hidden = attributes.get("_non_persistent_buffers_set", ())
    left_out = hidden if isinstance(hidden, set) else ()
    for part in ("_parameters", "_buffers"):
        for name, tensor in attributes[part].items():
            if tensor is None or (part == "_buffers" and name in left_out):
                continue
            key = _join(path, name)
            if not isinstance(tensor, torch.Tensor):
                raise pickle.UnpicklingError(
                    f"Can only hold tensors under {key!a}, but got {type(tensor).__name__}"
                )
            yield key, tensor


def _join(path: str, name: Any) -> str:
    if type(name) is not str:
        raise pickle.UnpicklingError(
            f"Can only name what is in a module by text, but got {type(name).__name__}"
        )
    return f"{path}.{name}" if path else name


def described(state: Mapping[str, Any]) -> Iterator[str]:
    """What was done to read `state`, in words, where it is that of a pickled module."""
    if not isinstance(state, ModuleState):
        return
    packages = sorted({path.partition(".")[0] for path in state.classes})
    count = len(state.classes)
    yield (
        f"it pickles a whole model: stubs stand for {count} class{'' if count == 1 else 'es'} of "
        f"{', '.join(packages)}, of which nothing is imported"
    )
    folded = [key for key in state if key.endswith("conv.bias") and _is_fused(key, state)]
    if folded:
        yield (
            f"{len(folded)} convolutions have a bias and no batch normalisation beside them, as "
            "fuse() leaves them"
        )


def _is_fused(key: str, state: Mapping[str, Any]) -> bool:
    """Whether the convolution with the bias `key` has lost its batch normalisation."""
    start = key.removesuffix("conv.bias")
    return start[-1:] in ("", ".") and f"{start}bn.weight" not in state

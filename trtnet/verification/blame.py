"""Says which module, or which code between modules, made the first wrong tensor.

The modules that could have made it run again, on the tensors that the *network* gave them: layers
are called ``<module path>/<operation>``, so what enters a module's layers from outside is its
input. A module that turns the network's input into the network's output is not to blame.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trtnet.graph.types import Graph, Layer
from trtnet.verification.comparison import Row, Tolerance, compare
from trtnet.verification.local_check import Failure, Place
from trtnet.verification.torch_run import Call, tensors_in, with_tensors

_FIT_POINTS = 3  # values per channel from which a scale and a shift cannot explain anything


@dataclass(frozen=True)
class Blame:
    """What is wrong.

    Attributes:
        kind: ``"module"``: a module does not do what PyTorch's does; ``"code"``: the code of a
            module's own ``forward``, between the modules it calls; ``"rounding"``: nothing by
            itself, but rounding adds up to more than the tolerance; ``"quantization"``: an
            output of a quantized network is further off than the tolerance.
        modules: paths of the modules it is in: one, or two of which one is folded into the
            other where nothing tells them apart. The path of the model itself is ``""``.
        where: the same in words: ``layer1.0.conv1``, ``layer1.0 (between bn2 and relu#1)``.
        message: one sentence that says why.
        row: the comparison that shows it, of the module on the network's own input; for
            ``"rounding"`` from end to end.
    """

    kind: str
    modules: tuple[str, ...]
    where: str
    message: str
    row: Row


class Sites:
    """Which tensors a network gives to each of its modules, from the names of its layers.

    Args:
        graph: the network.
        paths: of all modules; layers with other names say nothing.
    """

    def __init__(self, graph: Graph, paths: Collection[str]) -> None:
        self.graph, self.paths = graph, {"", *paths}
        self.makers = {name: layer for layer in graph.layers for name in layer.outputs}

    def inputs(self, path: str) -> list[str]:
        """Tensors that the layers of the call `path` take from outside; constants are none."""
        layers = [layer for layer in self.graph.layers if _is_in(path, _owner(layer))]
        made = {name for layer in layers for name in layer.outputs}
        taken = (name for layer in layers for name in layer.inputs)
        outside = dict.fromkeys(name for name in taken if name is not None and name not in made)
        return [name for name in outside if not self._is_constant(name)]

    def is_passed_on(self, tensor: str, by: Sequence[Call]) -> bool:
        """Whether `tensor` was made outside the calls `by`."""
        maker = self.makers.get(tensor)
        if maker is None:
            return True
        owner = _owner(maker)
        known = owner is not None and re.sub(r"#\d+$", "", owner) in self.paths
        return known and not any(_is_in(call.path, owner) for call in by)

    def _is_constant(self, name: str) -> bool:
        return name in self.makers and self.makers[name].type == "CONSTANT"


def _owner(layer: Layer) -> str | None:
    path, slash, _ = layer.name.rpartition("/")
    return path if slash else None


def _is_in(path: str, owner: str | None) -> bool:
    return owner is not None and (owner == path or owner.startswith(f"{path}."))


class Locator:
    """Finds who is to blame for a failure.

    Args:
        sites: of the network.
        fetch: gives the network's values of tensors by name.
        tolerance: what a module on its own is held to.
    """

    def __init__(
        self,
        sites: Sites,
        fetch: Callable[[Collection[str]], Mapping[str, Tensor]],
        tolerance: Tolerance,
    ) -> None:
        self.sites, self.tolerance = sites, tolerance
        self._fetch = fetch
        self._values: Mapping[str, Tensor] = {}
        self._inputs: dict[str, list[str]] = {}

    def locate(self, failure: Failure) -> Blame:
        chain, places = failure.chain, failure.places
        containers = [place.container for place in places[:-1] if place.container]
        self._inputs = {call.path: self.sites.inputs(call.path) for call in (*chain, *containers)}
        last = chain[-1] if chain else None
        if last and not self._inputs[last.path] and self.sites.is_passed_on(failure.tensor, chain):
            self._inputs[last.path] = [failure.tensor]
        wanted = {failure.tensor, *(name for names in self._inputs.values() for name in names)}
        self._values = self._fetch(wanted)
        first, end, certain = self._suspects(failure)
        if end == 0:
            return _code(self._place(places), failure)
        return self._modules(failure, first, end, certain)

    def _suspects(self, failure: Failure) -> tuple[int, int, bool]:
        """The part ``chain[first:end]`` that is wrong, and whether nothing before it can be."""
        end = len(failure.chain)
        for index in reversed(range(end)):
            right = self._explains(failure, index)
            if right:
                end = index
            elif right is False:
                return index, end, True
        return 0, end, False

    def _explains(self, failure: Failure, index: int) -> bool | None:
        """Whether ``chain[index:]`` makes the failed tensor of the network's input to it."""
        call = failure.chain[index]
        given = self._bind(call)
        if given is None:
            return None
        values, faithful = given
        made = _run(failure.chain[index:], values)
        ours = self._values[failure.tensor]
        if any(self.tolerance.accepts(compare("", ours, theirs)) for theirs in made):
            return True
        return False if faithful else None

    def _bind(self, call: Call) -> tuple[list[Tensor], bool] | None:
        """The network's values for the tensors `call` was given, and whether their shapes fit;
        ``None`` where it is not known which they are."""
        given = list(tensors_in((call.args, call.kwargs)))
        values = [self._values[name] for name in self._inputs[call.path]]
        chosen = [_closest(values, theirs) for theirs in given]
        if len(given) == len(values) == 1 and chosen[0] is None:
            return [_like(values[0], given[0])], False
        if all(ours is None for ours in chosen):
            return None
        pairs = zip(chosen, given, strict=True)
        return [_like(theirs if ours is None else ours, theirs) for ours, theirs in pairs], True

    def _modules(self, failure: Failure, first: int, end: int, certain: bool) -> Blame:
        chain, suspects = failure.chain, failure.chain[first:end]
        doubt = "only the last has a tensor in the network"
        if end == len(chain) and len(suspects) > 1 and _is_batch_norm(chain[-1]):
            scaled = self._is_scaled(failure, first)
            doubt = "one is folded into the other, and nothing tells which of them it is"
            suspects = suspects[:-1] if scaled is False else suspects
            certain = certain or scaled is True
        if end < len(chain):
            message = f"has no layers in the network, and {chain[end].path} lacks its effect"
        elif certain:
            message = "does not do what PyTorch's does with the network's own input"
        else:
            place = failure.places[0]
            message = f"differs from PyTorch's, or the code before it does: {place}{_aside(place)}"
        if len(suspects) > 1:
            message += f"; {doubt}"
        modules = tuple(call.path for call in suspects)
        return Blame("module", modules, " + ".join(modules), message, failure.row)

    def _is_scaled(self, failure: Failure, first: int) -> bool | None:
        """Whether what the calls before the BatchNorm make in PyTorch is the failed tensor up to
        a scale and a shift per channel, so that it could be the BatchNorm that is wrong."""
        chain = failure.chain[first:]
        given = self._bind(chain[0])
        made = _run(chain[:-1], given[0] if given else None)
        ours = self._values[failure.tensor]
        if len(made) != 1 or not bool(ours.isfinite().all()):
            return None
        if made[0].shape != ours.shape:
            return False
        fitted = _fit_channels(made[0], ours)
        return None if fitted is None else self.tolerance.accepts(compare("", ours, fitted))

    def _place(self, places: Sequence[Place]) -> Place:
        """The outermost place whose code made what the places inside it were given."""
        for place in places[:-1]:
            call = place.container
            given = list(tensors_in((call.args, call.kwargs))) if call else []
            bound = self._bind(call) if call else None
            if bound is None or all(
                self.tolerance.accepts(compare("", ours, theirs))
                for ours, theirs in zip(bound[0], given, strict=True)
            ):
                return place
        return places[-1]


def _is_batch_norm(call: Call) -> bool:
    return isinstance(call.module, torch.nn.modules.batchnorm._BatchNorm)


def _code(place: Place, failure: Failure) -> Blame:
    message = "this code does not do what PyTorch's does with the network's own tensors"
    message += _aside(place)
    path = place.container.path if place.container else ""
    return Blame("code", (path,), str(place), message, failure.row)


def _aside(place: Place) -> str:
    names = ", ".join(place.skipped)
    return f" (without tensors in the network: {names})" if names else ""


def _run(chain: Sequence[Call], values: Iterable[Tensor] | None) -> list[Tensor]:
    """What the calls of `chain` return one after the other, the first given `values` instead of
    its own tensors; nothing if they refuse them."""
    made: list[Tensor] = []
    for index, call in enumerate(chain):
        args, kwargs = call.args, dict(call.kwargs)
        if index:
            values = [made[0]]
        if values is not None:
            args, kwargs = with_tensors((args, kwargs), iter(values))
        try:
            made = list(tensors_in(call.module(*args, **kwargs)))
        except (RuntimeError, ValueError, IndexError):
            return []
        if index < len(chain) - 1 and len(made) != 1:
            return []
    return made


def _closest(values: Sequence[Tensor], theirs: Tensor) -> Tensor | None:
    fitting = [
        ours
        for ours in values
        if ours.shape == theirs.shape and ours.is_floating_point() == theirs.is_floating_point()
    ]
    if len(fitting) < 2:
        return fitting[0] if fitting else None
    return min(fitting, key=lambda ours: compare("", ours, theirs).rel_l2)


def _like(ours: Tensor, theirs: Tensor) -> Tensor:
    return ours.to(theirs.device, theirs.dtype, copy=True)


def _fit_channels(made: Tensor, ours: Tensor) -> Tensor | None:
    """`made` with the scale and shift per channel (axis 1) that bring it nearest to `ours`;
    ``None`` where there are too few values to tell."""
    x, y = (value.double().cpu().transpose(0, 1).flatten(1) for value in (made, ours))
    if x.shape[1] < _FIT_POINTS:
        return None
    dx, dy = (value - value.mean(1, keepdim=True) for value in (x, y))
    scale = (dx * dy).sum(1, keepdim=True) / (dx * dx).sum(1, keepdim=True).clamp_min(1e-300)
    fitted = y.mean(1, keepdim=True) + scale * dx
    shape = ours.transpose(0, 1).shape
    return fitted.reshape(shape).transpose(0, 1)

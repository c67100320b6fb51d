"""Finds the module, or the code between modules, that computed the first wrong tensor.

The modules that could have computed it run again, on the tensors that the *network* gave them.
Layers are named ``<module path>/<operation>``: a tensor that enters a module's layers from other
layers is an input of the module. A module that computes the network's output from the network's
input is right.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trtnet.graph.types import Graph, Layer
from trtnet.layer_names import call_of
from trtnet.verification.comparison import Row, Tolerance, compare
from trtnet.verification.local_check import Failure, Place
from trtnet.verification.torch_run import ModuleCall, tensors_in, with_tensors

_FIT_POINTS = 3  # fewer values per channel always fit a scale and a shift


@dataclass(frozen=True)
class Blame:
    """The cause of a difference between network and PyTorch model.

    Attributes:
        kind: ``"module"``: a module computes something else than PyTorch's; ``"code"``: the code
            of a module's own ``forward`` does, between the modules it calls; ``"rounding"``: each
            module is right, but rounding adds up to more than the tolerance;
            ``"quantization"``: an output of a quantized network is out of tolerance.
        modules: paths of the faulty modules: one, or two where one is folded into the other and
            they cannot be told apart. The path of the model itself is ``""``.
        where: the same as text: ``layer1.0.conv1``, ``layer1.0 (between bn2 and relu#1)``.
        message: one sentence that explains the difference.
        row: the comparison that shows it: of the module on the network's own input, or, for
            ``"rounding"`` and ``"quantization"``, from end to end.
    """

    kind: str
    modules: tuple[str, ...]
    where: str
    message: str
    row: Row


class ModuleInputs:
    """The input tensors of each module of a network, from the names of its layers.

    Args:
        graph: the network.
        paths: paths of all modules; layers with other names belong to no module.
    """

    def __init__(self, graph: Graph, paths: Collection[str]) -> None:
        self.graph, self.paths = graph, {"", *paths}
        self.makers = {name: layer for layer in graph.layers for name in layer.outputs}

    def inputs(self, path: str) -> list[str]:
        """Tensors that the layers of the call `path` read from other layers, without constants."""
        layers = [layer for layer in self.graph.layers if _is_in(path, _owner(layer))]
        made = {name for layer in layers for name in layer.outputs}
        taken = (name for layer in layers for name in layer.inputs)
        outside = dict.fromkeys(name for name in taken if name is not None and name not in made)
        return [name for name in outside if not self._is_constant(name)]

    def is_passed_on(self, tensor: str, by: Sequence[ModuleCall]) -> bool:
        """Whether `tensor` was computed outside of the calls `by`, which return it unchanged."""
        maker = self.makers.get(tensor)
        if maker is None:
            return True
        owner = _owner(maker)
        known = owner is not None and call_of(owner)[0] in self.paths
        return known and not any(_is_in(call.path, owner) for call in by)

    def _is_constant(self, name: str) -> bool:
        return name in self.makers and self.makers[name].type == "CONSTANT"


def _owner(layer: Layer) -> str | None:
    path, slash, _ = layer.name.rpartition("/")
    return path if slash else None


def _is_in(path: str, owner: str | None) -> bool:
    return owner is not None and (owner == path or owner.startswith(f"{path}."))


class Locator:
    """Finds the cause of a failure.

    Args:
        module_inputs: of the network.
        fetch: returns the network's values of the named tensors.
        tolerance: the limits of one module on its own.
    """

    def __init__(
        self,
        module_inputs: ModuleInputs,
        fetch: Callable[[Collection[str]], Mapping[str, Tensor]],
        tolerance: Tolerance,
    ) -> None:
        self.module_inputs, self.tolerance = module_inputs, tolerance
        self._fetch = fetch
        self._values: Mapping[str, Tensor] = {}
        self._inputs: dict[str, list[str]] = {}

    def locate(self, failure: Failure) -> Blame:
        """The module, or the code, that is the cause of `failure`."""
        self._load(failure)
        first, end, certain = self._suspects(failure)
        if end == 0:
            return _code(self._place(failure.places), failure)
        return self._modules(failure, first, end, certain)

    def _load(self, failure: Failure) -> None:
        """Fetches the network's values of the failed tensor and of the inputs of all suspects."""
        chain = failure.chain
        containers = [place.container for place in failure.places[:-1] if place.container]
        known = self.module_inputs
        self._inputs = {call.path: known.inputs(call.path) for call in (*chain, *containers)}
        last = chain[-1] if chain else None
        if last and not self._inputs[last.path] and known.is_passed_on(failure.tensor, chain):
            self._inputs[last.path] = [failure.tensor]
        wanted = {failure.tensor, *(name for names in self._inputs.values() for name in names)}
        self._values = self._fetch(wanted)

    def _suspects(self, failure: Failure) -> tuple[int, int, bool]:
        """The faulty part ``chain[first:end]``, and whether everything before it is right."""
        end = len(failure.chain)
        for index in reversed(range(end)):
            right = self._explains(failure, index)
            if right:
                end = index
            elif right is False:
                return index, end, True
        return 0, end, False

    def _explains(self, failure: Failure, index: int) -> bool | None:
        """Whether ``chain[index:]`` computes the failed tensor from the network's input to it;
        ``None`` where its input in the network is not known well enough."""
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

    def _bind(self, call: ModuleCall) -> tuple[list[Tensor], bool] | None:
        """The network's values for the tensor arguments of `call`, and whether their shapes fit;
        ``None`` where it is not known which tensors these are."""
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
        """Blames the modules ``chain[first:end]``."""
        chain, suspects = failure.chain, failure.chain[first:end]
        doubt = "only the last has a tensor in the network"
        if end == len(chain) and len(suspects) > 1 and _is_batch_norm(chain[-1]):
            scaled = self._is_scaled(failure, first)
            doubt = "one is folded into the other, so that they cannot be told apart"
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
        """Whether a scale and a shift per channel turn PyTorch's input of the BatchNorm, the last
        call, into the failed tensor: then the BatchNorm may be wrong. ``None`` if unknown."""
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
        """The innermost place whose module may have right inputs, or else the outermost one."""
        for place in places[:-1]:
            if place.container is None or self._may_have_right_inputs(place.container):
                return place
        return places[-1]

    def _may_have_right_inputs(self, call: ModuleCall) -> bool:
        """Whether the network gave `call` what PyTorch did, as far as that is known."""
        bound = self._bind(call)
        given = tensors_in((call.args, call.kwargs))
        return bound is None or all(
            self.tolerance.accepts(compare("", ours, theirs))
            for ours, theirs in zip(bound[0], given, strict=True)
        )


def _is_batch_norm(call: ModuleCall) -> bool:
    return isinstance(call.module, torch.nn.modules.batchnorm._BatchNorm)


def _code(place: Place, failure: Failure) -> Blame:
    message = "this code does not do what PyTorch's does with the network's own tensors"
    message += _aside(place)
    if failure.changed:
        message += f"; PyTorch's changes {' and '.join(failure.changed)} in place: does this, too?"
    path = place.container.path if place.container else ""
    return Blame("code", (path,), str(place), message, failure.row)


def _aside(place: Place) -> str:
    """The calls in `place` that could not be compared, for messages."""
    names = ", ".join(place.skipped)
    return f" (without tensors in the network: {names})" if names else ""


def _run(chain: Sequence[ModuleCall], values: Iterable[Tensor] | None) -> list[Tensor]:
    """Calls the modules of `chain` one after the other and returns the tensors of the last.

    The first gets `values` instead of its own tensors, each other one the output of the call
    before. Returns nothing where a call fails or an inner call has several outputs.
    """
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
    """Of `values` with the shape and kind of `theirs`, the nearest to it."""
    fitting = [
        ours
        for ours in values
        if ours.shape == theirs.shape and ours.is_floating_point() == theirs.is_floating_point()
    ]
    if len(fitting) < 2:
        return fitting[0] if fitting else None
    return min(fitting, key=lambda ours: compare("", ours, theirs).rel_l2)


def _like(ours: Tensor, theirs: Tensor) -> Tensor:
    """A copy of `ours` with the device and type of `theirs`."""
    return ours.to(theirs.device, theirs.dtype, copy=True)


def _fit_channels(made: Tensor, ours: Tensor) -> Tensor | None:
    """`made` with the scale and shift per channel (axis 1) that bring it nearest to `ours`;
    ``None`` where a channel has too few values for a meaningful fit."""
    x, y = (value.double().cpu().transpose(0, 1).flatten(1) for value in (made, ours))
    if x.shape[1] < _FIT_POINTS:
        return None
    dx, dy = (value - value.mean(1, keepdim=True) for value in (x, y))
    scale = (dx * dy).sum(1, keepdim=True) / (dx * dx).sum(1, keepdim=True).clamp_min(1e-300)
    fitted = y.mean(1, keepdim=True) + scale * dx
    shape = ours.transpose(0, 1).shape
    return fitted.reshape(shape).transpose(0, 1)

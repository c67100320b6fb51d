"""Sums of convolutions of one tensor: one convolution, with a kernel that is summed ahead of time.

Networks are trained with branches that a single convolution can stand for: RepVGG
(arXiv:2101.03697), MobileOne (arXiv:2206.04040) and FastViT (arXiv:2303.14189) add kernels of
several sizes, the tensor itself and scales of its channels. Code that fuses them before it exports
a network loses the names of the parameters; here they are kept.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from trtnet.engines.torch.constants import is_stored, new_buffer, release
from trtnet.reference.elementwise import scale_shift
from trtnet.reference.module_builder import is_kept

_PER_CHANNEL = ((-1, 1, 1), (1, -1, 1, 1))
_SUMS: dict[Any, float] = {torch.add: 1.0, torch.sub: -1.0}


def merge_sums(module: fx.GraphModule) -> None:
    """Replaces sums of convolutions of one tensor, of it and of its scaled channels, all in half
    precision, by one convolution each.

    A sum whose kernel is no longer exact to the type's precision stays: a scale can make weights
    smaller than the type has digits for. Buffers that nothing reads any more are freed.
    """
    forms, taken = _Forms(module), set[fx.Node]()
    for node in reversed(list(module.graph.nodes)):
        form = forms.known.get(node)
        if form is None or node in taken or not form.terms or len(form.nodes) == 1:
            continue
        if _replaced(module, forms, node, form):
            taken.update(form.nodes)


class Term(NamedTuple):
    """A convolution without its bias, times a factor: (1,) or (O,), in float32 on the host."""

    conv: fx.Node
    factor: Tensor


@dataclass(frozen=True)
class Affine:
    """A sum of convolutions of one tensor, the tensor by a scale, and a shift.

    Attributes:
        source: the tensor.
        nodes: what computes the sum, the last node last.
        scale: (1,) or (C,) in float32 on the host; None without this part.
        shift: (1,) or (C,), likewise.
    """

    source: fx.Node
    nodes: tuple[fx.Node, ...]
    terms: tuple[Term, ...]
    scale: Tensor | None
    shift: Tensor

    def by(self, node: fx.Node, factor: Tensor, shift: Tensor | None = None) -> Affine:
        """This times `factor` plus `shift`, which is what `node` computes."""
        return replace(
            self,
            nodes=(*self.nodes, node),
            terms=tuple(Term(conv, before * factor) for conv, before in self.terms),
            scale=None if self.scale is None else self.scale * factor,
            shift=self.shift * factor + (0.0 if shift is None else shift),
        )

    def plus(self, node: fx.Node, other: Affine, sign: float) -> Affine:
        """This plus or minus `other`, which is what `node` computes."""
        minus = other.by(node, torch.full((1,), sign))
        scales = [scale for scale in (self.scale, minus.scale) if scale is not None]
        return Affine(
            self.source,
            (*self.nodes, *minus.nodes),
            (*self.terms, *minus.terms),
            sum(scales[1:], scales[0]) if scales else None,
            self.shift + minus.shift,
        )


class _Forms:
    """The nodes of a module that are such sums.

    Attributes:
        known: the sum of each.
    """

    def __init__(self, module: fx.GraphModule) -> None:
        self._module = module
        self.known: dict[fx.Node, Affine] = {}
        for node in module.graph.nodes:
            if node.op == "call_function" and node.meta.get("half"):
                form = self._of(node)
                if form is not None and (not form.terms or self.widest(form) is not None):
                    self.known[node] = form

    def widest(self, form: Affine) -> fx.Node | None:
        """The convolution of `form` that can stand for all of it, with another kernel."""
        wide = max(form.terms, key=lambda term: self.kernel(term.conv).numel()).conv
        channels, depth = (kernel := self.kernel(wide)).shape[:2]
        vectors = [form.shift, *(term.factor for term in form.terms)]
        if form.scale is not None:
            vectors.append(form.scale)
            stride, groups = wide.args[3], wide.args[6]
            moves = stride != (1, 1) or not _is_centred(wide, kernel)
            if moves or channels != depth * groups:  # type: ignore[operator]
                return None
        if any(len(vector) not in (1, channels) for vector in vectors):  # one is broadcast
            return None
        fits = all(_fits(conv, self.kernel(conv), wide, kernel) for conv, _ in form.terms)
        return wide if fits else None

    def kernel(self, conv: fx.Node) -> Tensor:
        """The stored kernel of a convolution."""
        return self._value(conv.args[1])  # type: ignore[arg-type]

    def _of(self, node: fx.Node) -> Affine | None:
        if node.target is F.conv2d:
            return self._convolution(node)
        if node.target is scale_shift:
            return self._scaled(node)
        if node.target is torch.mul or node.target in _SUMS:
            return self._of_two(node)
        return None

    def _convolution(self, node: fx.Node) -> Affine | None:
        arguments: Any = node.args
        x, kernel, bias, *_, padding, _, _ = arguments
        if not is_stored(kernel) or not (bias is None or is_stored(bias)):
            return None
        value = self._value(kernel)
        if value.dim() != 4 or isinstance(padding, str) or not isinstance(x, fx.Node):
            return None
        one = torch.ones(1)
        shift = one * 0 if bias is None else self._vector(bias)
        return Affine(x, (node,), (Term(node, one),), None, shift)

    def _scaled(self, node: fx.Node) -> Affine | None:
        arguments: Any = node.args
        x, *stored, view = arguments
        if tuple(view) not in _PER_CHANNEL or not all(map(is_stored, stored)):
            return None
        scale, shift = map(self._vector, stored)
        return self._inside(x).by(node, scale, shift)

    def _of_two(self, node: fx.Node) -> Affine | None:
        """A sum, a difference, or a product with a constant."""
        one, other = node.args
        if not (isinstance(one, fx.Node) and isinstance(other, fx.Node)) or node.kwargs:
            return None
        for x, stored in ((one, other), (other, one)):
            constant = self._per_channel(stored)
            if constant is None or is_stored(x):
                continue
            inside, same = self._inside(x), torch.ones(1)
            if node.target is torch.mul:
                return inside.by(node, constant)
            if node.target is torch.add:
                return inside.by(node, same, constant)
            sign = 1.0 if x is one else -1.0
            return inside.by(node, same * sign, -sign * constant)
        return None if node.target is torch.mul else self._joined(node, one, other)

    def _joined(self, node: fx.Node, one: fx.Node, other: fx.Node) -> Affine | None:
        """A sum of two such sums; one of them may be the tensor itself."""
        left, right = self._usable(one), self._usable(other)
        for first, second in ((left, right), (left, None), (None, right)):
            if first is None and second is None:
                continue
            first, second = first or _itself(one), second or _itself(other)
            is_apart = set(first.nodes).isdisjoint(second.nodes)
            if first.source is second.source and is_apart:
                return first.plus(node, second, _SUMS[node.target])
        return None

    def _inside(self, x: fx.Node) -> Affine:
        return self._usable(x) or _itself(x)

    def _usable(self, node: fx.Node) -> Affine | None:
        """The sum of `node`, where nothing else asks for its value."""
        return self.known.get(node) if len(node.users) == 1 and not is_kept(node) else None

    def _per_channel(self, node: fx.Node) -> Tensor | None:
        """A constant of one value, or of one per channel of an image, as a vector."""
        if not is_stored(node):
            return None
        value = self._value(node)
        axis = value.dim() - 3
        is_one = value.numel() == 1 and value.dim() <= 4
        is_vector = axis in (0, 1) and value.shape[axis] == value.numel()
        if not value.is_floating_point() or not (is_one or is_vector):
            return None
        return self._vector(node)

    def _vector(self, node: fx.Node) -> Tensor:
        return self._value(node).to("cpu").float().reshape(-1)

    def _value(self, node: fx.Node) -> Tensor:
        value: Tensor = getattr(self._module, str(node.target))
        return value


def _itself(node: fx.Node) -> Affine:
    """`node` as such a sum."""
    one = torch.ones(1)
    return Affine(node, (), (), one, one * 0)


def _is_centred(conv: fx.Node, kernel: Tensor) -> bool:
    """Whether the middle of `kernel` is at the position of the result."""
    padding, dilation = conv.args[4:6]
    sizes = kernel.shape[2:]
    around = tuple(d * (n - 1) / 2 for d, n in zip(dilation, sizes, strict=True))  # type: ignore[arg-type, operator]
    return tuple(padding) == around and all(n % 2 == 1 for n in sizes)  # type: ignore[arg-type]


def _fits(conv: fx.Node, kernel: Tensor, wide: fx.Node, widest: Tensor) -> bool:
    """Whether `conv` is `wide` with a kernel that is zero outside of its own."""
    if kernel.shape[:2] != widest.shape[:2] or conv.args[3] != wide.args[3]:
        return False
    if conv.args[6] != wide.args[6]:
        return False
    if kernel.shape == widest.shape and conv.args[4:6] == wide.args[4:6]:
        return True
    if not (_is_centred(conv, kernel) and _is_centred(wide, widest)):
        return False
    rows = zip(kernel.shape[2:], widest.shape[2:], conv.args[5], wide.args[5], strict=True)  # type: ignore[arg-type]
    return all(n == 1 or (n <= most and own == its) for n, most, own, its in rows)


def _replaced(module: fx.GraphModule, forms: _Forms, node: fx.Node, form: Affine) -> bool:
    """Puts one convolution in the place of `node`; False where its weights are not exact."""
    wide = forms.widest(form)
    assert wide is not None
    arguments: Any = wide.args
    kernel, bias = forms.kernel(wide), form.shift.expand(len(forms.kernel(wide)))
    total = _summed(forms, form, kernel)
    rounded, shift = total.to(kernel.dtype), bias.to(kernel.dtype).contiguous()
    lost = (rounded.float() - total).flatten(1).norm(dim=1)
    most = torch.finfo(kernel.dtype).eps * total.flatten(1).norm(dim=1)
    if not (bool((lost <= most).all()) and bool(shift.isfinite().all())):
        return False
    stored = [part for conv, _ in form.terms for part in conv.args[1:3] if is_stored(part)]
    with module.graph.inserting_before(node):
        held = new_buffer(module, f"{arguments[1].target}_summed", rounded.to(kernel.device))
        added = new_buffer(module, f"{arguments[1].target}_shift", shift.to(kernel.device))
        made = module.graph.call_function(F.conv2d, (form.source, held, added, *arguments[3:]))
    layers = [part.meta["layer"] for part in form.nodes if "layer" in part.meta]
    made.meta.update(node.meta, layer=" + ".join(layers))
    node.replace_all_uses_with(made)
    made.name, node.name = node.name, made.name  # the value keeps its tensor's name
    release(module, *reversed(form.nodes), *dict.fromkeys(stored))
    return True


def _summed(forms: _Forms, form: Affine, like: Tensor) -> Tensor:
    """The kernel of all of `form`, of the shape of `like`, in float32 on the host: there it takes
    no memory of the device."""
    total = torch.zeros(like.shape)
    height, width = like.shape[2:]
    for conv, factor in form.terms:
        kernel = forms.kernel(conv).to("cpu").float()
        h, w = kernel.shape[2:]
        top, left = (height - h) // 2, (width - w) // 2
        total[:, :, top : top + h, left : left + w] += kernel * factor.reshape(-1, 1, 1, 1)
    if form.scale is not None:
        out = torch.arange(len(total))
        total[out, out % like.shape[1], height // 2, width // 2] += form.scale
    return total

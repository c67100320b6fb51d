"""Large tensors that are multiplied by small ones several times, and added to themselves: one
factor and one term.

Of ``x + (bias + weight * (x * gate))``, as a global response normalisation has it, is made
``x * (1 + weight * gate) + bias``: what is small is computed first, and `x` is read once. A term of
channels that lies between such a factor and a product goes into the product's bias.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from trtnet.engines.torch.constants import is_stored, new_buffer
from trtnet.engines.torch.passes import linear_of_columns
from trtnet.engines.torch.tactics.choices import is_half
from trtnet.engines.torch.tactics.products import columns_of, without_gate
from trtnet.reference.module_builder import is_kept

_SMALL = 16  # times so many elements a large tensor has, at least
_LEAST, _MOST = 2.0**-4, 2.0**8  # of a stored factor by which another one may be multiplied

Factor = Any
"""A node; ``None`` for one; or a function with its two operands, which are factors."""


@dataclass(frozen=True)
class _Form:
    """``source * factor + term``.

    A form with a term is only added to: to multiply the term would lose digits where the sum is
    small, as that of a value and its mean.

    Attributes:
        steps: the functions of large tensors that compute it.
    """

    source: fx.Node
    factor: Factor = None
    term: fx.Node | None = None
    steps: tuple[fx.Node, ...] = ()

    @property
    def needed(self) -> int:
        """How many functions of large tensors it takes."""
        return int(self.factor is not None) + int(self.term is not None)


def gather_factors(module: fx.GraphModule, device: torch.device) -> None:
    """Rewrites `module`, which :func:`specialize` made, in place, where there is less work then.

    Args:
        device: where it runs.
    """
    forms: dict[fx.Node, _Form] = {}
    for node in module.graph.nodes:
        form = _form(node, forms)
        if form is not None:
            forms[node] = form
    absorbed = {step for form in forms.values() for step in form.steps[:-1]}
    written: dict[fx.Node, fx.Node] = {}
    for node, form in forms.items():
        is_less = node not in absorbed and form.needed < len(form.steps)
        if is_less and _keeps_digits(form.factor):
            source = written.get(form.source, form.source)
            written[node] = _write(module, node, replace(form, source=source), device)
    for node in list(module.graph.nodes):
        if node.target in (linear_of_columns, F.conv2d):
            _into_bias(module, node)
    module.graph.eliminate_dead_code(is_kept)
    module.recompile()


def _form(node: fx.Node, forms: dict[fx.Node, _Form]) -> _Form | None:
    """That of a sum or a product; None for other nodes."""
    if node.target not in (torch.add, torch.mul) or node.kwargs or not is_half(node):
        return None
    arguments: Any = node.args
    left, right = arguments
    if not (_is_of_type(left, node) and _is_of_type(right, node)):
        return None
    for large, small in ((left, right), (right, left)):
        if small.meta["value"].numel() * _SMALL <= large.meta["value"].numel():
            return _with_small(node, large, small, forms)
    return _sum(node, left, right, forms) if node.target is torch.add else None


def _is_of_type(operand: Any, node: fx.Node) -> bool:
    value = operand.meta.get("value") if isinstance(operand, fx.Node) else None
    return isinstance(value, Tensor) and value.dtype is node.meta["value"].dtype


def _with_small(
    node: fx.Node, large: fx.Node, small: fx.Node, forms: dict[fx.Node, _Form]
) -> _Form | None:
    if large.meta["value"].shape != node.meta["value"].shape:
        return None
    known = next(form for form in _forms_of(large, forms) if form.term is None)
    steps = (*known.steps, node)
    if node.target is torch.add:
        return _Form(known.source, known.factor, small, steps)
    factor = small if known.factor is None else (torch.mul, known.factor, small)
    return _Form(known.source, factor, None, steps)


def _sum(node: fx.Node, left: fx.Node, right: fx.Node, forms: dict[fx.Node, _Form]) -> _Form | None:
    for one in _forms_of(left, forms):
        for other in _forms_of(right, forms):
            if one.source is other.source and None in (one.term, other.term):
                term = other.term if one.term is None else one.term
                factor = (torch.add, one.factor, other.factor)
                return _Form(one.source, factor, term, (*one.steps, *other.steps, node))
    return None


def _forms_of(node: fx.Node, forms: dict[fx.Node, _Form]) -> list[_Form]:
    """What `node` is of something else, where nothing else needs `node`; and of itself."""
    own = [forms[node]] if node in forms and len(node.users) == 1 else []
    return [*own, _Form(node)]


def _keeps_digits(factor: Factor, least: float = _LEAST) -> bool:
    """Whether factors that are multiplied with each other first stay in the range of their type,
    as far as is known: one of two is stored, and neither large nor, where one is not added, small.
    A product of small ones has no digits left, where that with a large value had them."""
    if not isinstance(factor, tuple):
        return True
    function, *parts = factor
    if function is torch.add:
        least = 0.0 if None in parts else least
        return all(_keeps_digits(part, least) for part in parts)
    is_known = any(_is_between(part, least) for part in parts)
    return is_known and all(_keeps_digits(part, least) for part in parts)


def _is_between(factor: Factor, least: float) -> bool:
    """Whether `factor` is stored, and its values are zero or from `least` to the most."""
    if not is_stored(factor):
        return False
    stored: Tensor = getattr(factor.graph.owning_module, str(factor.target))
    sizes = stored.abs()
    return bool(((sizes == 0) | ((sizes >= least) & (sizes <= _MOST))).all())


def _write(module: fx.GraphModule, node: fx.Node, form: _Form, device: torch.device) -> fx.Node:
    """Computes `node` by its form; returns what does."""
    example = node.meta["value"]

    def called(function: Any, left: fx.Node, right: fx.Node) -> fx.Node:
        made = module.graph.call_function(function, (left, right))
        made.meta.update(node.meta, value=function(left.meta["value"], right.meta["value"]))
        return made

    def written(factor: Factor) -> fx.Node:
        if isinstance(factor, tuple):
            function, left, right = factor
            return called(function, written(left), written(right))
        if factor is not None:
            return factor  # type: ignore[no-any-return]
        one = torch.ones((1,) * example.dim(), dtype=example.dtype, device=device)
        return _constant(module, f"{node.name}_one", one)

    with module.graph.inserting_before(node):
        value = form.source
        if form.factor is not None:
            value = called(torch.mul, value, written(form.factor))
        if form.term is not None:
            value = called(torch.add, value, form.term)
    node.replace_all_uses_with(value)
    return value


def _into_bias(module: fx.GraphModule, node: fx.Node) -> None:
    """Has the bias of a product contain what the product gives of a term before it."""
    arguments: Any = node.args
    x, weight, bias = arguments[:3]
    is_image = node.target is F.conv2d
    columns = columns_of(node)
    if columns is None or not is_stored(bias) or x.target is not torch.add or len(x.users) != 1:
        return
    for source, term in (x.args, x.args[::-1]):
        if not is_stored(term) or without_gate(source, is_image) is None:
            continue
        depth = source.meta["value"].shape[1 if is_image else -1]
        shape = [depth, *(1,) * (x.meta["value"].dim() - 2)] if is_image else [depth]
        given = list(term.meta["value"].shape)
        if given[-len(shape) :] != shape or term.meta["value"].numel() != depth:
            continue
        added, stored, old = (getattr(module, str(of.target)) for of in (term, weight, bias))
        matrix = stored.reshape(columns, depth).t() if is_image else stored.reshape(depth, columns)
        more = (added.reshape(1, depth).float() @ matrix.float()).reshape(old.shape)
        with module.graph.inserting_before(node):
            made = _constant(module, f"{bias.target}_whole", (old.float() + more).to(old.dtype))
        node.args = (source, weight, made, *arguments[3:])
        return


def _constant(module: fx.GraphModule, name: str, value: Tensor) -> fx.Node:
    made = new_buffer(module, name, value)
    made.meta["value"] = value.to("meta")
    return made

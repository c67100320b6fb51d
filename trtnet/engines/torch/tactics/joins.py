"""Products that read one tensor, by one kernel: their weights are joined, and each result is a part
of the columns of one tensor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from trtnet.engines.torch.constants import is_stored, new_buffer
from trtnet.engines.torch.passes import linear_of_columns
from trtnet.engines.torch.tactics import calls, linear
from trtnet.engines.torch.tactics.chains import Chain
from trtnet.engines.torch.tactics.choices import Region, Tactic, is_half
from trtnet.engines.torch.tactics.layouts import Layout
from trtnet.engines.torch.tactics.movement import view_of
from trtnet.engines.torch.tactics.products import columns_of, is_point
from trtnet.engines.torch.tactics.simplify import cast_type
from trtnet.engines.torch.tactics.specialize import recompute
from trtnet.reference.linear import multiply
from trtnet.reference.module_builder import is_kept
from trtnet.reference.rearrange import cut
from trtnet.reference.reduction import normalize

_LARGEST = 1 << 26  # bytes of a joined result: all of it is held as long as one part is read

_WITHOUT_GAPS = (normalize,)  # whose kernels take no rows with gaps


@dataclass(frozen=True)
class Join:
    """Products whose results are the columns of `whole`.

    Attributes:
        chains: the products with their activations, which are the same for all.
        whole: the concatenation of their results.
        parts: for each chain the node that takes its result out of `whole`.
    """

    chains: tuple[Chain, ...]
    whole: fx.Node
    parts: tuple[fx.Node, ...]

    def undo(self) -> dict[fx.Node, fx.Node]:
        """Has the results of the products used as they are; what replaces each part."""
        found = {}
        for chain, part in zip(self.chains, self.parts, strict=True):
            part.replace_all_uses_with(chain.result)
            found[part] = chain.result
        return found


def join_products(module: fx.GraphModule) -> list[Join]:
    """Rewrites a specialized module, in place, so that products of one tensor with stored weights
    and the same activation give one tensor; who reads a part must take it with gaps between the
    rows."""
    groups: dict[Any, list[Chain]] = {}
    for node in list(module.graph.nodes):
        chain = _chain(node)
        if chain is not None:
            key = (node.args[0], node.target, node.meta["value"].dtype, chain.epilogue)
            groups.setdefault(key, []).append(chain)
    joins = [
        _joined(module, chains)
        for chains in groups.values()
        if len(chains) > 1
        and sum(chain.result.meta["value"].nbytes for chain in chains) <= _LARGEST
    ]
    recompute(module, {part for join in joins for part in join.parts})
    return joins


def regions(module: fx.GraphModule, joins: Sequence[Join], count: int) -> Iterator[Region]:
    """For each of `joins` its region, of at most `count` tactics: one product, or one for each
    part that writes its columns."""
    for join in joins:
        yield _region(module, join, count)


def _chain(node: fx.Node) -> Chain | None:
    """A product with its activation, where it can be a part."""
    if node.target not in (linear_of_columns, multiply, F.conv2d):
        return None
    is_image = node.target is F.conv2d
    if not (is_half(node) and is_half(node.args[0])):
        return None
    if columns_of(node) is None or (is_image and not _is_bias_stored(node)):
        return None
    chain = Chain([node], is_image)
    chain.follow(moves=True)
    plain = chain.factor is None and chain.other is None and chain.places is None
    if not plain or chain.is_image != is_image or any(map(is_kept, chain.nodes)):
        return None
    value: Tensor = chain.result.meta["value"]
    return chain if _takes_gaps(chain.result, _with_gaps(value, is_image), is_image) else None


def _is_bias_stored(node: fx.Node) -> bool:
    """Whether a convolution has no bias that is computed."""
    bias = node.args[2]
    return bias is None or is_stored(bias)


def _with_gaps(value: Tensor, is_image: bool) -> Tensor:
    """`value` as a part of more columns."""
    axis = 1 if is_image else -1
    more = torch.cat([value, value], axis)
    more = more.contiguous(memory_format=torch.channels_last) if is_image else more
    return more.narrow(axis, 0, value.shape[axis])


def _takes_gaps(node: fx.Node, value: Tensor, is_image: bool) -> bool:
    """Whether all that reads `node`, with gaps as `value` has them, reads them without a copy, as
    far as that is known."""
    return bool(node.users) and all(_reads_gaps(user, value, is_image) for user in node.users)


def _reads_gaps(user: fx.Node, value: Tensor, is_image: bool) -> bool:
    if is_image:
        return user.target is torch.cat or (user.target is F.conv2d and is_point(user))
    if user.target is torch.reshape:
        moved = view_of(value, user.meta["value"].shape)
        return moved is not None and _takes_gaps(user, moved, is_image)
    if cast_type(user) is not None:  # a region may read through it
        return _takes_gaps(user, value, is_image)
    return user.target not in _WITHOUT_GAPS


def _joined(module: fx.GraphModule, chains: list[Chain]) -> Join:
    """Puts the products of `chains` where the first is, and what joins them after it."""
    first = chains[0].nodes[0]
    for source in (x for chain in chains for node in chain.nodes for x in node.all_input_nodes):
        if is_stored(source):
            first.prepend(source)
    last = first
    for node in [node for chain in chains for node in chain.nodes][1:]:
        last.append(node)
        last = node
    results = [chain.result for chain in chains]
    values = [result.meta["value"] for result in results]
    is_image = chains[0].is_image
    axis = 1 if is_image else values[0].dim() - 1
    with module.graph.inserting_after(last):
        whole = module.graph.call_function(torch.cat, (results, axis))
    value = torch.cat(values, axis)
    layout = torch.channels_last if is_image else torch.contiguous_format
    whole.meta.update(results[0].meta, value=value.contiguous(memory_format=layout))
    parts, begin, last = [], 0, whole
    for result, size in zip(results, (value.shape[axis] for value in values), strict=True):
        with module.graph.inserting_after(last):
            part = module.graph.call_function(
                cut, (whole, (begin,), (size,), (1,)), {"axes": (axis,), "mode": "STRICT_BOUNDS"}
            )
        part.meta.update(result.meta, value=whole.meta["value"].narrow(axis, begin, size))
        result.replace_all_uses_with(part, delete_user_cb=lambda user: user is not whole)
        parts.append(part)
        begin, last = begin + size, part
    return Join(tuple(chains), whole, tuple(parts))


def _region(module: fx.GraphModule, join: Join, count: int) -> Region:
    nodes = [node for chain in join.chains for node in chain.nodes]
    products = [chain.nodes[0] for chain in join.chains]
    source, added, sums = _sum(products)
    by_columns = products[0].target is linear_of_columns
    weight, bias = _weights(module, products, by_columns)
    is_image = join.chains[0].is_image
    value = join.whole.meta["value"]
    shape = tuple(value.permute(0, 2, 3, 1).shape if is_image else value.shape)
    how = Layout(shape, by_columns, is_image, is_image)
    widths = tuple(part.meta["value"].shape[1 if is_image else -1] for part in join.parts)
    rows, depth = value.numel() // shape[-1], weight.meta["value"].numel() // shape[-1]
    epilogue = join.chains[0].epilogue
    has = "".join("-+"[x is not None] for x in (bias, added))
    dtype = str(value.dtype).removeprefix("torch.")
    problem = f"joined {(rows, *widths, depth)} {dtype} {epilogue} {has} {how.words}"
    shared = {"epilogue": epilogue, "layout": how}
    tactics = []
    ways = [linear.tiles(rows, width, depth, count) for width in widths]
    for i, tile in enumerate(linear.tiles(rows, shape[-1], depth, count)):
        tactics.append(Tactic(f"tile {tile}", calls.joined_product, {**shared, "tile": tile}))
        tiles = tuple(way[i] for way in ways)
        options = {**shared, "widths": widths, "tiles": tiles}
        words = " ".join(map(str, dict.fromkeys(tiles)))
        tactics.append(Tactic(f"apart {i} {words}", calls.products_apart, options))
    tactics.append(Tactic("library", calls.joined_library_product, shared, always=True))
    operands = (source, weight, bias, added)
    return Region((*sums, *nodes, join.whole), operands, problem, tuple(tactics))


def _sum(products: Sequence[fx.Node]) -> tuple[Any, Any, tuple[fx.Node, ...]]:
    """What the products read; of a sum that nothing else reads its two operands, and the sum. An
    operand that only the sum reads is left to what computes both at once."""
    x: Any = products[0].args[0]
    if x.target is not torch.add or x.kwargs or set(x.users) != set(products):
        return x, None, ()
    made = x.meta["value"]
    for part in x.args:
        if not isinstance(part, fx.Node) or part.meta["value"].shape != made.shape:
            return x, None, ()
        if part.meta["value"].dtype is not made.dtype:
            return x, None, ()
        if len(part.users) == 1 and not is_stored(part):
            return x, None, ()
    return x.args[0], x.args[1], (x,)


def _weights(
    module: fx.GraphModule, products: Sequence[fx.Node], by_columns: bool
) -> tuple[fx.Node, fx.Node | None]:
    """The weights of the products as one, in their layout, and their biases; zeros where one has
    none."""
    names: Any = [product.args[1] for product in products]
    stored = [getattr(module, str(name.target)) for name in names]
    columns = [columns_of(product) for product in products]
    flat = [
        weight.reshape(-1, n) if by_columns else weight.reshape(n, -1)
        for weight, n in zip(stored, columns, strict=True)
    ]
    biases: Any = [
        product.args[2] if product.target is not multiply else None for product in products
    ]
    with module.graph.inserting_before(products[0]):
        weight = _constant(module, f"{names[0].target}_joined", torch.cat(flat, int(by_columns)))
        if not any(bias is not None for bias in biases):
            return weight, None
        vectors = [
            flat[0].new_zeros(n) if bias is None else getattr(module, str(bias.target)).reshape(-1)
            for bias, n in zip(biases, columns, strict=True)
        ]
        return weight, _constant(module, f"{names[0].target}_biases", torch.cat(vectors))


def _constant(module: fx.GraphModule, name: str, value: Tensor) -> fx.Node:
    made = new_buffer(module, name, value)
    made.meta["value"] = value.to("meta")
    return made

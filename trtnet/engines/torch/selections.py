"""The best rows of a mask by their ranks, without a matrix of all pairs, on a CPU.

What :mod:`trtnet.detection.selection` adds after a suppression compares the rank of every box with
every place, and multiplies the matrix by a table. The results here are the same, of one pass over
the boxes: PyTorch would spread each step over its threads, and wait for them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from trtnet.reference import rearrange
from trtnet.reference.module_builder import is_kept

_EXACT = 2**24  # float32 holds all integers up to here


def select_at_once(module: fx.GraphModule) -> None:
    """Rewrites what compares ranks with places, in place."""
    graph = module.graph
    for node in graph.find_nodes(op="call_function", target=torch.logical_and):
        found = _ranks_and_mask(module, node)
        if found is None or not all(_is_use(module, use) for use in node.users):
            continue
        for use in list(node.users):
            (reader,) = use.users
            with graph.inserting_before(reader):
                if reader.target is torch.matmul:
                    made = graph.call_function(rows_at, (*found, reader.args[1]))
                else:
                    made = graph.call_function(any_at, found)
            made.meta.update(reader.meta)
            reader.replace_all_uses_with(made)
            made.name, reader.name = reader.name, made.name
    graph.eliminate_dead_code(is_kept)
    module.recompile()


def rows_at(ranks: Tensor, mask: Tensor, count: int, table: Tensor) -> Tensor:
    """(B, count, M): at each place the sum of the rows of `table` (N, M) whose box has that rank.

    Args:
        ranks: (B, N) float32.
        mask: (B, N) bool: the boxes that count.
        table: whole numbers, so that the order of a sum does not matter.
    """
    image, box, place = _placed(ranks, mask, count)
    values = table.reshape(table.shape[-2:]).numpy()
    made = np.zeros((np.broadcast_shapes(ranks.shape, mask.shape)[0], count, values.shape[1]),
                    np.float32)  # fmt: skip
    np.add.at(made, (image, place), values[box])
    return torch.from_numpy(made)


def any_at(ranks: Tensor, mask: Tensor, count: int) -> Tensor:
    """(B, count) int32: 1 at each place that is the rank of a box; arguments as :func:`rows_at`."""
    image, _, place = _placed(ranks, mask, count)
    made = np.zeros((np.broadcast_shapes(ranks.shape, mask.shape)[0], count), np.int32)
    made[image, place] = 1
    return torch.from_numpy(made)


def _placed(ranks: Tensor, mask: Tensor, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image, box and place of each box whose rank is a place."""
    values, chosen = (x.numpy() for x in torch.broadcast_tensors(ranks, mask))
    image, box = np.nonzero(chosen & (values >= 0) & (values < count))
    found = values[image, box]
    place = found.astype(np.intp)
    is_whole = place == found
    return image[is_whole], box[is_whole], place[is_whole]


def _ranks_and_mask(module: fx.GraphModule, node: fx.Node) -> tuple[Any, Any, int] | None:
    """Ranks, mask and number of places, if `node` compares the ranks with the places."""
    same, masked = node.args
    if not (_is_call(same, torch.eq) and _is_row(module, masked)):
        return None
    ranks, places = same.args  # type: ignore[union-attr]
    numbers = _stored(module, places)
    if not _is_row(module, ranks) or numbers is None or numbers.dim() != 3:
        return None
    count = numbers.shape[1]
    wanted = torch.arange(count, dtype=torch.float32).reshape(1, count, 1)
    if not torch.equal(numbers, wanted):
        return None
    return ranks.args[0], masked.args[0], count  # type: ignore[union-attr]


def _is_row(module: fx.GraphModule, node: Any) -> bool:
    """Whether `node` makes (B, 1, N) of (B, N)."""
    if not _is_call(node, rearrange.insert_axes):
        return False
    axes = _stored(module, node.args[1])
    return axes is not None and axes.reshape(-1).tolist() == [1]


def _is_use(module: fx.GraphModule, use: fx.Node) -> bool:
    """Whether `use` converts, for a product with a table or a maximum over the boxes."""
    if use.op != "call_method" or use.target != "to" or len(use.users) != 1:
        return False
    (reader,) = use.users
    if _is_call(reader, torch.amax):
        return bool(use.args[1] == torch.int32 and reader.args[1:] == ((2,), False))
    table = _stored(module, reader.args[1]) if _is_call(reader, torch.matmul) else None
    if table is None or reader.args[0] is not use or table.dtype != torch.float32:
        return False
    sums = float(table.abs().double().sum()) if table.numel() else 0.0
    is_table = table.dim() == 2 or (table.dim() == 3 and table.shape[0] == 1)
    return bool(is_table and sums < _EXACT and (table == table.round()).all())


def _stored(module: fx.GraphModule, node: Any) -> Tensor | None:
    if not (isinstance(node, fx.Node) and node.op == "get_attr"):
        return None
    value = getattr(module, str(node.target))
    return value if isinstance(value, Tensor) else None


def _is_call(node: Any, function: object) -> bool:
    return isinstance(node, fx.Node) and node.target is function

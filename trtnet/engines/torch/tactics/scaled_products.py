"""Regions of 1×1 convolutions of images whose channels are scaled first, as by the BatchNorm and
ReLU before each convolution of DenseNet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from typing import Any

import torch.nn.functional as F
from torch import Tensor, fx

from trtnet.engines.torch.fusion import convolution_relu
from trtnet.engines.torch.tactics import calls, image_regions, products
from trtnet.engines.torch.tactics.choices import Region, Tactic
from trtnet.engines.torch.tactics.epilogue import Activation, Epilogue
from trtnet.engines.torch.tactics.layouts import Layout
from trtnet.engines.torch.tactics.linear import Tile


def of_images(
    module: fx.GraphModule, node: fx.Node, count: int, taken: Set[fx.Node]
) -> Region | None:
    """The region of `node`, which scales channels, with the product that alone reads them."""
    scaled = image_regions.scaled(node)
    if scaled is None:
        return None
    users = list(scaled.nodes[-1].users)
    if len(users) != 1 or users[0].target not in (F.conv2d, convolution_relu) or users[0] in taken:
        return scaled
    before = scaled.tactics[0].options["epilogue"]
    if before.last or not products.is_point(users[0]):
        return scaled
    product = products.of_images(module, users[0], count, taken)
    if product is None or product.operands[0] is not scaled.nodes[-1]:
        return scaled
    if any(x is not None for x in product.operands[5:]) or not _gives_images(product):
        return scaled
    return Region(
        (*scaled.nodes, *product.nodes),
        (*scaled.operands, *product.operands[1:5]),
        f"{scaled.problem}, {product.problem}",
        tuple(_tactics(before.first, product)),
    )


def scaled_product(
    x: Tensor,
    scale: Tensor,
    shift: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    factor: Tensor | None,
    other: Tensor | None,
    *,
    before: Activation,
    epilogue: Epilogue,
    layout: Layout,
    tile: Tile,
    out: Tensor | None = None,
) -> Tensor:
    """A product of ``before(x * scale + shift)``, by one kernel; see
    :func:`trtnet.engines.torch.tactics.calls.product`."""
    return calls.product(
        *(x, weight, bias, factor, other, None, None, None),
        epilogue=epilogue, layout=layout, tile=tile,
        scale=scale.reshape(-1), shift=shift.reshape(-1), before=before, out=out,
    )  # fmt: skip


def scaled_apart(
    x: Tensor,
    scale: Tensor,
    shift: Tensor,
    *operands: Tensor | None,
    before: Activation,
    function: Callable[..., Tensor],
    options: Mapping[str, Any],
) -> Tensor:
    """As :func:`scaled_product`, by `function`, which takes `options`, after a pass of its own."""
    y = calls.scaled_image(x, scale, shift, epilogue=Epilogue(before))
    return function(y, *operands, None, None, None, **options)


def convolved_by_library(
    x: Tensor,
    kernel: Tensor,
    bias: Tensor | None,
    factor: None,
    other: Tensor | None,
    *_: None,
    window: Sequence[Any],
    is_fused: bool,
) -> Tensor:
    """A convolution as the nodes of a network have it."""
    if is_fused:
        return convolution_relu(x, kernel, bias, *window, other=other)
    return F.conv2d(x, kernel, bias, *window)


def _tactics(before: Activation, product: Region) -> Iterator[Tactic]:
    """Each of the product in both forms, and that of the nodes after a pass."""
    for tactic in product.tactics:
        if tactic.function is calls.product:
            at_once = {"before": before, **tactic.options}
            yield Tactic(f"at once {tactic.name}", scaled_product, at_once)
        apart = {"before": before, "function": tactic.function, "options": tactic.options}
        yield Tactic(f"apart {tactic.name}", scaled_apart, apart, tactic.always)
    node, *further = product.nodes
    if not further:
        window: Any = node.args[3:]
        options = {"window": window, "is_fused": node.target is convolution_relu}
        apart = {"before": before, "function": convolved_by_library, "options": options}
        yield Tactic("apart as it is", scaled_apart, apart, always=True)


def _gives_images(product: Region) -> bool:
    return all(tactic.options["layout"].is_image for tactic in product.tactics)

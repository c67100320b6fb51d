"""Modules that are written call by call."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import fx

from trtnet.reference.rearrange import cut


class Draft:
    """A module that is written call by call; ``values`` are what its nodes compute."""

    def __init__(self, **inputs):
        self.graph, self.root = fx.Graph(), {}
        self.inputs = list(inputs.values())
        for name, value in inputs.items():
            self._known(self.graph.placeholder(name), value)

    def _known(self, node, value):
        node.meta["value"] = value
        return node

    def __getitem__(self, name):
        return next(node for node in self.graph.nodes if node.name == name)

    def stored(self, value):
        name = f"stored_{len(self.root)}"
        self.root[name] = value
        return self._known(self.graph.get_attr(name), value)

    def __call__(self, function, *args, **kwargs):
        node = self.graph.call_function(function, args, kwargs)
        given = fx.node.map_arg((args, kwargs), lambda x: x.meta["value"])
        return self._known(node, function(*given[0], **given[1]))

    def cast(self, x, dtype):
        return self._known(self.graph.call_method("to", (x, dtype)), x.meta["value"].to(dtype))

    def module(self, *outputs):
        self.graph.output({str(i): x for i, x in enumerate(outputs)})
        for node in self.graph.nodes:
            value = node.meta.get("value")
            if isinstance(value, torch.Tensor):
                node.meta["value"] = value.to("meta")
        return fx.GraphModule(self.root, self.graph)


def deformable(batch, queries, heads, width, maps, points, half=torch.float16):
    """Deformable attention as its layers are read back, with places beside the maps, before a
    product: the draft, what is attended to, and the product."""
    places = (batch, queries, heads, sum(points))
    at = torch.rand(*places, 2) * 1.6 - 0.3
    pixels = [rows * columns for rows, columns in maps]
    value, scores = torch.randn(batch, sum(pixels), heads, width), torch.randn(*places)
    weight = torch.randn(3, heads * width)
    d = Draft(value=value.to(half), at=at, scores=scores.to(half), weight=weight)
    image = d(torch.permute, d.cast(d["value"], torch.float32), (0, 2, 3, 1))
    grid = d(torch.sub, d(torch.mul, d["at"], d.stored(torch.tensor(2.0))),
             d.stored(torch.tensor(1.0)))  # fmt: skip
    grid = d(torch.permute, grid, (0, 2, 1, 3, 4))
    weights = d(torch.softmax, d.cast(d["scores"], torch.float32), 3)
    parts, pixel, place = [], 0, 0
    for (rows, columns), count in zip(maps, points, strict=True):
        level = _part(d, image, 3, pixel, rows * columns)
        level = d(torch.reshape, level, (batch * heads, width, rows, columns))
        around = _part(d, grid, 3, place, count)
        around = d(torch.reshape, around, (batch * heads, queries, count, 2))
        sampled = d(F.grid_sample, level, around, "bilinear", "zeros", False)
        own = d(torch.permute, _part(d, weights, 3, place, count), (0, 2, 1, 3))
        own = d(torch.reshape, own, (batch * heads, 1, queries, count))
        parts.append(d(torch.mul, sampled, own))
        pixel, place = pixel + rows * columns, place + count
    total = d(torch.sum, d(torch.cat, parts, 3), (3,), False)
    total = d(torch.permute, d(torch.reshape, total, (batch, heads, width, queries)), (0, 3, 1, 2))
    found = d(torch.reshape, total, (batch, queries, heads * width))
    found = d(torch.mul, found, d.stored(torch.tensor(0.5)))
    return d, found, d(F.linear, found, d["weight"])


def _part(d, x, axis, first, count):
    shape = list(x.meta["value"].shape)
    start = [first if i == axis else 0 for i in range(len(shape))]
    shape[axis] = count
    return d(cut, x, start, shape, [1] * len(shape), axes=None, mode="STRICT_BOUNDS")

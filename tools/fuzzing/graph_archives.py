"""Damaged and hostile archives of graphs: the engines of the torch backend."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np

import trtnet
from fuzzing.array_files import mutated
from fuzzing.weight_files import change_json
from trtnet import graph, reference
from trtnet.errors import TrtnetError
from trtnet.weights import dumps, loads

_VALUES: tuple[Any, ...] = (
    *(0, 1, 2, -1, 7, 2**31, 2**40, 2**62, 2**63, 1.5, 1e308, True, None, "", "x", "float32"),
    *(
        "CONSTANT",
        "LOOP_OUTPUT",
        "PLUGIN_V3",
        [],
        [1],
        [0, 0],
        [2**40],
        [None],
        ["x"],
        {},
        {"a": 1},
    ),
)


def archive(random: Random) -> None:
    """An archive whose description of the network was changed."""
    weights = loads(_base(random.randrange(3)), "the archive")
    content = json.loads(weights.metadata["graph"])
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        change_json(random, content, _VALUES)
    metadata = {**weights.metadata, "graph": json.dumps(content)}
    stored = dumps(dict(weights), metadata)
    if random.random() < 0.2:
        stored = mutated(random, stored)
    with contextlib.suppress(TrtnetError):
        _use(graph.loads(stored))


def _use(read: graph.Graph) -> None:
    """What is done with a graph before it runs."""
    for use in (
        graph.lint,
        graph.cost,
        graph.macs,
        lambda read: str(graph.diff(read, graph.loads(_base(0)))),
        graph.dumps,
        reference.compile,
    ):
        with contextlib.suppress(TrtnetError):
            use(read)


@functools.cache
def _base(number: int) -> bytes:
    """The archive of a small network."""
    net = trtnet.Network("rtx", precision="fp16" if number == 1 else "fp32")
    x = net.input("x", ("n" if number else 2, 3, 8, 8))
    weight = np.ones((4, 3, 3, 3), np.float32)
    y = trtnet.relu(trtnet.nn.functional.conv2d(x, net.constant(weight), padding=1) + 1)
    y = trtnet.nn.functional.max_pool2d(y, 2).flatten(1) @ net.constant(np.ones((64, 5), "f4"))
    if number == 2:
        y = trtnet.cat([y.softmax(1), y.transpose(0, 1).reshape(-1, 5), y[:, :5].float()], 0)
        y = y[:, 1:4].cumsum(1).topk(2, dim=1)[0]
    net.output("y", y)
    return graph.dumps(graph.read(net.definition))


CASES: dict[str, Callable[[Random], None]] = {"graph-archive": archive}
"""What runs one case of each kind."""

"""Names of layers: ``<path of a module's call>/<operation>``, and what is read from them.

:class:`trtnet.Network` gives these names. A repeated call of a module, and a repeated operation
within a call, have a number: ``layer1.0.relu#1/relu``, ``layer1.0/add#1``.
"""

from __future__ import annotations

import re
from typing import NamedTuple

# What a policy inserts. How many there are, and so their numbers, depends on the policy.
INSERTED = frozenset({"CAST", "DEQUANTIZE", "QUANTIZE"})


class LayerName(NamedTuple):
    """The parts of a layer's name.

    Attributes:
        module: the module's path, as in ``named_modules()``; ``""`` for the model itself, and for
            layers with other names.
        call: 0 for the first call of the module, 1 for the second.
        op: the operation, with its number; the whole name where that has no module.
    """

    module: str
    call: int
    op: str

    @classmethod
    def read(cls, name: str, type: str = "") -> LayerName:
        """The parts of the layer `name`.

        Args:
            type: of the layer. The operation of one that a policy inserts has no number.

        >>> LayerName.read("layer1.0.relu#1/relu")
        LayerName(module='layer1.0.relu', call=1, op='relu')
        >>> LayerName.read("fc/cast#2", "CAST")
        LayerName(module='fc', call=0, op='cast')
        """
        path, slash, op = name.rpartition("/")
        if not slash:
            return cls("", 0, name)
        return cls(*call_of(path), re.sub(r"#\d+$", "", op) if type in INSERTED else op)

    @property
    def row(self) -> dict[str, str | int]:
        """The parts by name, as all tables have them."""
        return self._asdict()


def call_of(path: str) -> tuple[str, int]:
    """Path and number of a module's call.

    >>> call_of("layer1.0.relu#1")
    ('layer1.0.relu', 1)
    """
    found = re.fullmatch(r"(.*)#(\d+)", path, re.DOTALL)
    return (found[1], int(found[2])) if found else (path, 0)


def reads_as_call(path: str) -> bool:
    """Whether `path` has the number of a repeated call in it.

    >>> reads_as_call("block#1.relu"), reads_as_call("c#")
    (True, False)
    """
    return without_calls(path) != path


def without_calls(path: str) -> str:
    """`path` without the numbers of calls, those of enclosing modules too.

    >>> without_calls("block#1.relu#2")
    'block.relu'
    """
    return re.sub(r"#\d+", "", path)


def cut(path: str, depth: int) -> str:
    """The module `depth` levels below the model that `path` is in, or `path` itself.

    >>> cut("layer1.0.conv1", 2)
    'layer1.0'
    """
    return ".".join(without_calls(path).split(".")[:depth])

"""What a page computes of a document, as its contract says: an oracle apart from trtnet."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from html.parser import HTMLParser
from typing import Any

from trtnet.graph import Graph, Layer, TensorInfo

Json = dict[str, Any]


def rows(columns: Json) -> Iterator[Json]:
    """The rows of a table of columns."""
    plain = {name: _plain(column) for name, column in columns.items()}
    for values in zip(*plain.values(), strict=True):
        yield dict(zip(plain, values, strict=True))


def _plain(column: Any) -> list[Any]:
    if isinstance(column, dict):
        return [None if at < 0 else column["values"][at] for at in column["at"]]
    return column


def bounds(variant: Json, gpu: Json, rate: str | None = None) -> list[float] | None:
    """Seconds of each kernel; None where the GPU has no such ceiling."""
    found = []
    for kernel in rows(variant["kernels"]):
        compute = 0.0
        if kernel["precision"] is not None:
            flops = gpu["flops"].get(rate or kernel["precision"])
            if flops is None:
                return None
            compute = 2 * kernel["macs"] / flops
        found.append(max(compute, (kernel["read"] + kernel["written"]) / gpu["bandwidth"]))
    return found


def exact_sum(values: list[float]) -> float:
    """The sum, rounded once."""
    return float(sum(map(Fraction, values)))


class Script(HTMLParser):
    """The text of the element with the id ``document``, as a browser's parser finds it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text, self.tags, self._inside = "", [], False
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._inside = ("id", "document") in attrs

    def handle_endtag(self, tag: str) -> None:
        self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.text += data


def chain(names: list[str]) -> Graph:
    """A chain of layers of these names, each a kernel of its own."""
    tensors = ["x", *(f"{name}:0" for name in names)]
    return Graph(
        name="chain",
        inputs=("x",),
        outputs=(tensors[-1],),
        layers=tuple(
            Layer(name, "SOFTMAX", (tensors[i],), (tensors[i + 1],), {"axes": 2})
            for i, name in enumerate(names)
        ),
        tensors={name: TensorInfo(name, "float32", (1, 4)) for name in tensors},
    )

"""What TensorRT's engine inspector and profiler write about the layers of an engine.

The forms are those of NVIDIA's documentation: "Engine Inspector" (TensorRT 10.16) and "Migrating
IEngineInspector Usage from TensorRT 10.x to 11.x". TensorRT-RTX has the same interface. trtnet has
not seen such files from engines of its own: what is read of them is marked as unproved.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from trtnet.reading.documents import Source, from_json
from trtnet.reading.files import FilePath, read_bytes
from trtnet.reading.schema import checked

_MOST_BYTES = 256 << 20
_FIX = "trtexec --exportLayerInfo=FILE, with --profilingVerbosity=detailed when it is built"
_PROFILE_FIX = "trtexec --exportProfile=FILE"
# How the inspector names types, in `DataType` or within the words of `Format/Datatype`.
_TYPES = (
    (r"\b(bf16|bfloat16)\b", "bf16"),
    (r"\b(fp16|half)\b", "fp16"),
    (r"\b(fp32|float)\b", "fp32"),
    (r"\b(fp8|e4m3)\b", "fp8"),
    (r"\b(fp4|e2m1)\b", "fp4"),
    (r"\bint8\b", "int8"),
    (r"\bint4\b", "int4"),
)
Milliseconds = Annotated[float, Meta(ge=0, le=1e9)]


class _StatedTensor(msgspec.Struct, frozen=True):
    """An input or output of a layer; TensorRT 10 has one text for format and type."""

    both: str = msgspec.field(name="Format/Datatype", default="")
    type: str = msgspec.field(name="DataType", default="")


class _StatedLayer(msgspec.Struct, frozen=True, rename="pascal"):
    """A layer of an engine that was built with detailed verbosity."""

    name: str
    layer_type: str = ""
    outputs: list[_StatedTensor] = []
    tactic_name: str = ""
    metadata: str = ""


class _StatedEngine(msgspec.Struct, frozen=True):
    """An engine; of names alone where it was built without detailed verbosity."""

    layers: list[str | _StatedLayer] = msgspec.field(name="Layers")
    bindings: list[Any] | None = msgspec.field(name="Bindings", default=None)
    tensors: list[Any] | None = msgspec.field(name="I/O Tensors", default=None)


class _StatedTime(msgspec.Struct, frozen=True):
    """A line of a profile; the first one has the number of executions instead of a name."""

    name: str | None = None
    count: int | None = None
    average: Milliseconds | None = msgspec.field(name="averageMs", default=None)
    median: Milliseconds | None = msgspec.field(name="medianMs", default=None)
    least: Milliseconds | None = msgspec.field(name="minMs", default=None)


@dataclass(frozen=True)
class EngineLayer:
    """One layer that an engine executes.

    Attributes:
        name: the engine's name of it, which names the layers of the network that it does.
        type: such as ``"CaskConvolution"``; ``""`` where it is not told.
        precision: of its first output; ``None`` where it is not told.
        tactic: name of the kernel; ``None`` where it is not told.
        metadata: what the network's layers say of themselves.
        seconds: that it takes, the median; ``None`` where it was not measured.
        least: seconds that it takes at least; ``None`` where that is not told.
    """

    name: str
    type: str = ""
    precision: str | None = None
    tactic: str | None = None
    metadata: str = ""
    seconds: float | None = None
    least: float | None = None


@dataclass(frozen=True)
class Taken:
    """What layers of one name take, in seconds.

    Attributes:
        seconds: the median where it is told, otherwise the mean.
        least: ``None`` where it is not told.
    """

    seconds: float
    least: float | None


@dataclass(frozen=True)
class EngineFile:
    """The layers of an engine, as a file tells them.

    Attributes:
        form: of the file, in words.
        layers: in execution order.
    """

    form: str
    layers: tuple[EngineLayer, ...]


def read_layers(path: FilePath) -> EngineFile:
    """The layers in the JSON of an engine inspector, as ``trtexec --exportLayerInfo`` writes it.

    Raises:
        UsageError: a file that cannot be read or is no such JSON.
    """
    source = Source(str(path), "the layers of an engine", fix=_FIX)
    data = from_json(read_bytes(path, source.what, _MOST_BYTES, fix=_FIX), source)
    stated = checked(data, _StatedEngine, source)
    form = "TensorRT 11" if stated.tensors is not None else "TensorRT 10"
    return EngineFile(f"{form} inspector", tuple(map(_layer, stated.layers)))


def read_profile(path: FilePath) -> dict[str, Taken]:
    """The times by name of the engine's layer.

    Args:
        path: of a JSON file, as ``trtexec --exportProfile`` and ``trtnet bench`` write it.

    Raises:
        UsageError: a file that cannot be read or is no such JSON.
    """
    source = Source(str(path), "a profile", fix=_PROFILE_FIX)
    data = from_json(read_bytes(path, source.what, _MOST_BYTES, fix=_PROFILE_FIX), source)
    found: dict[str, Taken] = {}
    for row in checked(data, list[_StatedTime], source):
        time = row.average if row.median is None else row.median
        if row.name is not None and time is not None:
            least = None if row.least is None else row.least / 1e3
            found[row.name] = _sum(found.get(row.name), Taken(time / 1e3, least))
    if not found:
        raise source.refuse("it has no times", expected="entries with name and averageMs")
    return found


def _sum(first: Taken | None, second: Taken) -> Taken:
    if first is None:
        return second
    known = first.least is not None and second.least is not None
    least = (first.least or 0.0) + (second.least or 0.0) if known else None
    return Taken(first.seconds + second.seconds, least)


def _layer(stated: str | _StatedLayer) -> EngineLayer:
    if isinstance(stated, str):
        return EngineLayer(stated)
    output = next(iter(stated.outputs), None)
    return EngineLayer(
        stated.name,
        stated.layer_type,
        None if output is None else _type(output.type or output.both),
        stated.tactic_name or None,
        stated.metadata,
    )


def _type(text: str) -> str | None:
    """The precision that a text about a tensor names.

    >>> _type("Thirty-two wide channel vectorized row major Int8 format"), _type("Half")
    ('int8', 'fp16')
    """
    return next((name for form, name in _TYPES if re.search(form, text, re.IGNORECASE)), None)

"""EngineFormat: how the engines of a backend are recognised, and what their first bytes tell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

_TENSORRT_HEADER = 64  # bytes


class HeaderFields(NamedTuple):
    """What the header of an engine states.

    Attributes:
        nbytes: size of the whole engine when it was written; ``None`` if it is not known.
        version: numbers of the release that built it, such as ``(1, 7, 1, 116)``; ``None`` if it
            is not known.
    """

    nbytes: int | None = None
    version: tuple[int, ...] | None = None


@dataclass(frozen=True)
class EngineFormat:
    """The format of a backend's engines.

    Attributes:
        description: for messages, such as ``'the first bytes "ftrt"'``.
        read_header: gives the header's fields, or ``None`` for bytes of another format.
        header_bytes: size of the header, which every engine has at least.
        size: what the header's `nbytes` are: the ``"exact"`` size, the ``"least"`` size, or
            ``"unreliable"``, on which no engine may be refused.
        has_reliable_version: whether an engine may be refused for the header's `version`.
    """

    description: str
    read_header: Callable[[bytes], HeaderFields | None]
    header_bytes: int = 0
    size: Literal["exact", "least", "unreliable"] = "unreliable"
    has_reliable_version: bool = False


def tensorrt_format(
    magic: bytes,
    *,
    layout: int | None = None,
    size: Literal["exact", "least", "unreliable"] = "unreliable",
    has_reliable_version: bool = False,
) -> EngineFormat:
    """The format that TensorRT and TensorRT-RTX share.

    Both write the engine's size at byte 16 and their version in the bytes 24 to 27. NVIDIA has
    described the version (https://github.com/NVIDIA/TensorRT/issues/3073); the size was found in
    engines of TensorRT-RTX 1.5.0, 1.6.1 and 1.7.1.

    Args:
        magic: the first four bytes.
        layout: the number at byte 8 for which size and version are known to stand there; ``None``
            for any.
        size, has_reliable_version: see :class:`EngineFormat`.
    """

    def read_header(engine: bytes) -> HeaderFields | None:
        if engine[:4] != magic:
            return None
        found = int.from_bytes(engine[8:12], "little")
        if len(engine) < _TENSORRT_HEADER or layout not in (None, found):
            return HeaderFields()
        return HeaderFields(int.from_bytes(engine[16:24], "little"), tuple(engine[24:28]))

    return EngineFormat(
        description=f'the first bytes "{magic.decode()}"',
        read_header=read_header,
        header_bytes=_TENSORRT_HEADER,
        size=size,
        has_reliable_version=has_reliable_version,
    )

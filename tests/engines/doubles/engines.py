"""Engines for the TensorRT double: real headers, then JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

MAGIC = {"tensorrt": b"ftrt", "rtx": b"vtrt"}
VERSION = {"tensorrt": "11.4.0.106", "rtx": "1.7.1.116"}
Read = Callable[[str], np.ndarray]


@dataclass(frozen=True)
class Tensor:
    name: str
    dtype: str
    shape: tuple[int, ...]
    is_input: bool
    on_host: bool = False


@dataclass(frozen=True)
class Described:
    """What an engine computes.

    ``affine``: y = 2 x + 1. ``positive``: those x that are above 0, as many as there are.
    ``resize``: the first values of 2 x + 1, repeated, in the shape that the input `size` holds in
    host memory.
    """

    kind: str
    tensors: tuple[Tensor, ...]
    profiles: tuple[Mapping[str, Sequence[Sequence[int]]], ...]
    weights: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    is_stripped: bool = False

    @property
    def input(self) -> Tensor:
        return self.tensor("x")

    @property
    def output(self) -> Tensor:
        return self.tensor("y")

    def find(self, name: str) -> Tensor | None:
        return next((tensor for tensor in self.tensors if tensor.name == name), None)

    def tensor(self, name: str) -> Tensor:
        found = self.find(name)
        assert found is not None, f"TensorRT was asked for a tensor {name!r}"
        return found

    def allows(self, profile: int, name: str, shape: tuple[int, ...]) -> bool:
        declared = self.tensor(name).shape
        if -1 not in declared:
            return shape == declared
        low, _, high = self.profiles[profile][name]
        return len(shape) == len(low) and all(
            a <= size <= b for a, size, b in zip(low, shape, high, strict=True)
        )

    def output_shape(self, shapes: Mapping[str, tuple[int, ...]], read: Read) -> tuple[int, ...]:
        if self.kind == "positive":
            return (-1,)
        return tuple(int(n) for n in read("size")) if self.kind == "resize" else shapes["x"]

    def compute(
        self, x: np.ndarray, shapes: Mapping[str, tuple[int, ...]], read: Read
    ) -> np.ndarray:
        if self.kind == "positive":
            return x[x > 0]
        y = 2 * x + 1
        return np.resize(y, self.output_shape(shapes, read)) if self.kind == "resize" else y


def write(
    name: str,
    *,
    kind: str = "affine",
    shape: Sequence[int] = (-1, 4),
    profiles: Sequence[tuple[Sequence[int], Sequence[int], Sequence[int]]] = (
        ((1, 4), (2, 4), (8, 4)),
    ),
    version: str | None = None,
    weights: Mapping[str, tuple[str, str]] | None = None,
    is_stripped: bool = False,
) -> bytes:
    """An engine of ``"tensorrt"`` or ``"rtx"``.

    Args:
        kind: see :class:`Described`.
        shape: of the float32 input `x`.
        profiles: smallest, usual and largest shape of `x`, one of these per profile.
        weights: type and bytes, in hexadecimal, of those that can be replaced.
        is_stripped: whether it is without these.
    """
    tensors = [Tensor("x", "FLOAT", tuple(shape), True)]
    if kind == "resize":
        tensors.append(Tensor("size", "INT64", (2,), True, on_host=True))
    given = {"affine": tuple(shape), "positive": (-1,), "resize": (-1, -1)}[kind]
    tensors.append(Tensor("y", "FLOAT", given, False))
    body = json.dumps(
        {
            "kind": kind,
            "tensors": [asdict(tensor) for tensor in tensors],
            "profiles": [{"x": profile} for profile in profiles],
            "weights": dict(weights or {}),
            "is_stripped": is_stripped,
        }
    ).encode()
    numbers = bytes(int(part) for part in (version or VERSION[name]).split("."))
    head = MAGIC[name] + bytes(4) + (2).to_bytes(8, "little")
    head += (64 + len(body)).to_bytes(8, "little") + numbers
    return head.ljust(64, b"\0") + body


def read(engine: bytes, name: str, version: str) -> Described | str:
    """What is in `engine`, or what TensorRT would log instead of loading it."""
    if engine[:4] != MAGIC[name]:
        return "Serialization assertion plan->header.magicTag == rt::kPLAN_MAGIC_TAG failed."
    if int.from_bytes(engine[16:24], "little") != len(engine):
        return "Serialization assertion plan.header.size == blobSize failed."
    if ".".join(map(str, engine[24:28])) != version:
        return "Serialization assertion stdVersionRead == kSERIALIZATION_VERSION failed."
    body: dict[str, Any] = json.loads(engine[64:])
    tensors = tuple(
        Tensor(**{**tensor, "shape": tuple(tensor["shape"])}) for tensor in body["tensors"]
    )
    return Described(body["kind"], tensors, tuple(body["profiles"]), body["weights"],
                     body["is_stripped"])  # fmt: skip

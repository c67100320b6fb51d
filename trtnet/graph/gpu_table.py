"""Peak rates of GPUs: the table in ``gpus.json``."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources

from trtnet.errors import UsageError
from trtnet.files import atomic_write
from trtnet.names import did_you_mean
from trtnet.reading.documents import Source, from_json
from trtnet.reading.files import read_bytes
from trtnet.reading.schema import checked

_MOST_BYTES = 1 << 20
_MOST = 1e9  # GB/s, and tera-operations per second


@dataclass(frozen=True)
class Gpu:
    """The peak rates of one GPU.

    Attributes:
        key: key in the table, such as ``"h200"`` or ``"h200-measured"``.
        name: full name.
        bandwidth: memory bandwidth in bytes per second.
        flops: operations per second by precision (``fp32``, ``tf32``, ``fp16``, ``bf16``,
            ``fp8``, ``int8``); a multiply-accumulate is two. Without sparsity, and for half
            precision with FP32 accumulation, which is what TensorRT does.
        source: where the figures were published or measured.
    """

    key: str
    name: str
    bandwidth: float
    flops: Mapping[str, float]
    source: str

    def flops_in(self, precision: str) -> float:
        """Peak operations per second in `precision`.

        Raises:
            UsageError: the table has no figure for this precision.
        """
        if precision not in self.flops:
            raise UsageError(
                f"no {precision} ceiling is known for {self.name}",
                expected=", ".join(self.flops),
                got=precision,
                fix="choose another precision or another GPU",
            )
        return self.flops[precision]


def gpus() -> dict[str, Gpu]:
    """Every GPU of the table by its key."""
    text = resources.files("trtnet.graph").joinpath("gpus.json").read_text("utf-8")
    return _read(text, Source("gpus.json", "the table of GPUs", fix="install trtnet again"))


def load_ceilings(path: str | os.PathLike[str]) -> dict[str, Gpu]:
    """The processors in a file of :func:`save_ceilings`, by key; one that is written by hand has
    the format of ``trtnet/graph/gpus.json``.

    Raises:
        UsageError: a file that cannot be read, or is something else.
    """
    fix = "write it with trtnet ceilings -o FILE (benchmark.measure_ceilings())"
    source = Source(str(path), "a file of ceilings", fix=fix)
    found = _read(read_bytes(path, source.what, _MOST_BYTES, fix=fix), source)
    if not found:
        raise UsageError(f"{path} has no ceilings", fix=fix)
    return found


def save_ceilings(path: str | os.PathLike[str], ceilings: Iterable[Gpu]) -> None:
    """Writes the peak rates of processors as JSON, for :func:`load_ceilings`.

    Raises:
        OSError: it cannot be written; an old file is unchanged.
    """
    values = {
        one.key: {
            "name": one.name,
            "gb_per_s": one.bandwidth / 1e9,
            "tflops": {name: flops / 1e12 for name, flops in one.flops.items()},
            "source": one.source,
        }
        for one in ceilings
    }
    with atomic_write(path) as file:
        file.write(json.dumps(values, indent=1).encode() + b"\n")


def find_gpu(key: str | Gpu) -> Gpu:
    """The GPU with the key `key`, in upper or lower case; a :class:`Gpu` is returned as it is.

    Raises:
        UsageError: the table has no such GPU; the message lists its keys.
    """
    if isinstance(key, Gpu):
        return key
    table = gpus()
    found = table.get(key.lower())
    if found is None:
        raise UsageError(
            f"no GPU {key!r} in the table",
            expected=", ".join(table),
            got=key,
            fix=did_you_mean(key.lower(), table) or "choose a GPU of the table",
        )
    return found


def _read(text: str | bytes, source: Source) -> dict[str, Gpu]:
    stated = checked(from_json(text, source), dict[str, _Entry], source)
    for key, entry in stated.items():
        rates = (entry.gb_per_s, *entry.tflops.values())
        if not entry.tflops or not all(0 < rate < _MOST for rate in rates):
            raise UsageError(
                f"{source.name} has a rate that no processor has",
                module=key,
                expected=f"one rate or more, above 0 and below {_MOST:g}",
                got=", ".join(f"{rate:g}" for rate in rates),
                fix=source.fix,
            )
    return {key: entry.gpu(key) for key, entry in stated.items()}


@dataclass(frozen=True)
class _Entry:
    """A GPU in the file: gigabytes and tera-operations per second."""

    name: str
    gb_per_s: float
    tflops: dict[str, float]
    source: str

    def gpu(self, key: str) -> Gpu:
        """The same in bytes and operations per second."""
        flops = {precision: tera * 1e12 for precision, tera in self.tflops.items()}
        return Gpu(key, self.name, self.gb_per_s * 1e9, flops, self.source)

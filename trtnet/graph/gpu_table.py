"""Peak rates of GPUs: the table in ``gpus.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

from trtnet.errors import UsageError
from trtnet.names import did_you_mean
from trtnet.reading.documents import Source, from_json
from trtnet.reading.schema import checked


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
    source = Source("gpus.json", "the table of GPUs", fix="install trtnet again")
    stated = checked(from_json(text, source), dict[str, _Entry], source)
    return {key: entry.gpu(key) for key, entry in stated.items()}


def find_gpu(key: str) -> Gpu:
    """The GPU with the key `key`, in upper or lower case.

    Raises:
        UsageError: the table has no such GPU; the message lists its keys.
    """
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

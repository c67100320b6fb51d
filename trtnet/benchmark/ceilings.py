"""Measures what a processor can do at most, for rooflines of machines that no table has."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from trtnet.errors import UsageError
from trtnet.graph import Gpu

if TYPE_CHECKING:
    import torch

    Product = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

_COPIED = 1 << 28  # bytes: far more than caches hold
_LEAST, _MOST = 128, {"cpu": 2048, "cuda": 8192}  # sizes of square matrices
_ENOUGH = 0.02  # seconds
_TIMES = 5


def measure_ceilings(device: str = "cpu", key: str | None = None) -> Gpu:
    """The memory bandwidth and the rates of products that PyTorch reaches on this machine.

    The best of some runs counts: of copying 256 MiB, which reads and writes them, and of products
    of large square matrices in float32, bfloat16 and float16; on a GPU with and without TF32, and
    in INT8 where PyTorch has such a product. They are what a library reaches, not what the chip is
    built for, so that a time may come out below a bound that is made of them.

    Args:
        device: ``"cpu"``, with as many threads as PyTorch uses, or ``"cuda"``.
        key: of the result; by default the device.

    Raises:
        UsageError: another device, or one that PyTorch does not have.
    """
    import torch

    if device not in _MOST or (device == "cuda" and not torch.cuda.is_available()):
        raise UsageError(
            "the ceilings of this device cannot be measured",
            expected="cpu, or cuda where PyTorch has a GPU (device=, --device)",
            got=device,
        )
    threads = torch.get_num_threads()
    name = (
        torch.cuda.get_device_name()
        if device == "cuda"
        else f"{platform.machine()} CPU, {threads} thread{'s' * (threads > 1)}"
    )
    with torch.inference_mode():
        rates = dict(_rates(device))
        bandwidth = _bandwidth(device)
    source = f"measured on this machine with PyTorch {torch.__version__}"
    return Gpu(key or device, f"{name}, measured", bandwidth, rates, source)


def _bandwidth(device: str) -> float:
    import torch

    source = torch.ones(_COPIED, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * _COPIED / _least(lambda: target.copy_(source), device)


def _rates(device: str) -> Iterator[tuple[str, float]]:
    """Operations per second, by name of the rate."""
    import torch

    before = torch.backends.cuda.matmul.allow_tf32
    try:
        for name, dtype in (("fp32", torch.float32), ("tf32", torch.float32),
                            ("bf16", torch.bfloat16), ("fp16", torch.float16)):  # fmt: skip
            torch.backends.cuda.matmul.allow_tf32 = name == "tf32"
            yield name, _rate(torch.matmul, dtype, device)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    if device == "cuda":
        yield "int8", _rate(torch._int_mm, torch.int8, device)


def _rate(product: Product, dtype: torch.dtype, device: str) -> float:
    """Operations per second of a product of square matrices that is large enough to be timed."""
    import torch

    size, seconds = _LEAST, 0.0
    while True:
        a = torch.ones((size, size), dtype=dtype, device=device)
        seconds = _least(lambda a=a: product(a, a), device)  # type: ignore[misc]
        if seconds > _ENOUGH or size >= _MOST[device]:
            return 2 * size**3 / seconds
        size *= 2


def _least(run: Callable[[], torch.Tensor], device: str) -> float:
    """The least seconds of some runs, after one that does not count."""
    import torch

    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    found = []
    for _ in range(_TIMES + 1):
        wait()
        start = time.perf_counter()
        run()
        wait()
        found.append(time.perf_counter() - start)
    return min(found[1:])

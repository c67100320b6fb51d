"""What the kernels of codes compute, by the reference's own functions, one rounding after the
other; and codes to give them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from tactics.oracles import activated
from torch import Tensor

from trtnet.engines.torch.tactics.quantized.finish import Finish, Operands, Step
from trtnet.engines.torch.tactics.quantized.passes import Packing
from trtnet.reference.integer import scaled
from trtnet.reference.quantize import from_quantized, to_quantized

NAMES = {torch.int8: "int8", torch.float8_e4m3fn: "float8_e4m3"}


def codes(seed: int, *shape: int, dtype: torch.dtype = torch.int8) -> Tensor:
    """All codes alike, with a bit more of the largest."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(-135, 136, shape, generator=generator).clamp(-128, 127)
    return drawn.to(dtype)


def encoded(x: Tensor, step: float, dtype: torch.dtype) -> Tensor:
    """The codes of values."""
    return to_quantized(x.float(), torch.tensor(step), (), dtype=NAMES[dtype])


def finished(sums: Tensor, given: Operands, how: Finish) -> Tensor:
    """What follows on sums (M, N), in layers of type ``how.middle``."""
    one = torch.ones(())
    y = scaled(sums, one, given.scales.float().expand(sums.shape[1]), given.bias, (-1,), 1)
    y = y.to(how.middle)
    y = y if given.term is None else y + given.term
    y = activated(y.float(), how.first).to(how.middle)
    y = y if given.factor is None else y * given.factor
    if given.other is not None:
        other = given.other
        if how.other_step:
            other = from_quantized(other, torch.tensor(how.other_step), ()).to(how.middle)
        y = y + other
    y = activated(y.float(), how.last).to(how.middle)
    return y if how.step is None else encoded(y, how.step.size, how.codes)


def product(
    x: Tensor, weight: Tensor, given: Operands, how: Finish, tile: object, by_engine: bool = False
) -> Tensor:
    """As :func:`trtnet.engines.torch.tactics.quantized.product.product`."""
    assert x.dim() == weight.dim() == 2
    assert x.stride(1) == 1
    assert weight.is_contiguous()
    check(given, x.shape[0], weight.shape[0])
    return finished(x.double() @ weight.double().t(), given, how)


def convolution(x, weight, window, given: Operands, how: Finish, tile: object) -> Tensor:
    """As :func:`trtnet.engines.torch.tactics.quantized.convolution.convolution`."""
    assert x.stride(3) == 1
    assert weight.is_contiguous()
    images, kernel = x.permute(0, 3, 1, 2).double(), weight.permute(0, 3, 1, 2).double()
    y = F.conv2d(images, kernel, None, *window).permute(0, 2, 3, 1)
    rows = y.reshape(-1, weight.shape[0])
    check(given, *rows.shape)
    return finished(rows, given, how)


def check(given: Operands, m: int, n: int) -> None:
    """That kernels take these operands."""
    for vector in given[:4]:
        assert vector is None or (vector.shape == (n,) and vector.is_contiguous())
    other = given.other
    assert other is None or (other.shape == (m, n) and other.stride(1) == 1)


def encode(x: Tensor, step: Step, dtype: torch.dtype) -> Tensor:
    """As :func:`trtnet.engines.torch.tactics.quantized.passes.encode`."""
    return encoded(x, step.size, dtype)


def pack(x: Tensor, step: Step, dtype: torch.dtype, how: Packing) -> Tensor:
    """As :func:`trtnet.engines.torch.tactics.quantized.passes.pack`."""
    assert x.is_contiguous()
    _, c, h, w = x.shape
    right, below = how.width - w - how.before, how.height - h - how.above
    padded = F.pad(encoded(x, step.size, dtype).float(), (how.before, right, how.above, below))
    y = F.pad(padded, (0, 0, 0, 0, 0, 4 - c)).permute(0, 2, 3, 1)
    windows = y.unfold(2, how.taps, 1)[:, :, : how.positions].transpose(3, 4)
    return windows.reshape(*windows.shape[:3], how.channels).to(dtype)


def mean_codes(x: Tensor, size: float, how: Finish, rows: int, channels: int) -> Tensor:
    """As :func:`trtnet.engines.torch.tactics.quantized.passes.mean_codes`."""
    assert x.dim() == 3
    assert x.is_contiguous()
    values = from_quantized(x, torch.tensor(size), ()).to(how.middle)
    y = values.float().mean(1).to(how.middle)
    return y if how.step is None else encoded(y, how.step.size, how.codes)


def finish_sums(sums: Tensor, given: Operands, how: Finish, tile: object) -> Tensor:
    """As :func:`trtnet.engines.torch.tactics.quantized.passes.finish_sums`."""
    check(given, *sums.shape)
    return finished(sums, given, how)


KERNELS = (product, convolution, encode, pack, mean_codes, finish_sums)

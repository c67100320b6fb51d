"""Kernels of codes against the reference's own functions: the same to the last bit, as sums of
integers are exact; but for activations that compute exponentials."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from tactics import codes as oracle
from tactics.codes import codes, finished
from tactics.oracles import ACTIVATIONS, HALVES_OF_PRODUCTS, IS_INTERPRETED, values

from trtnet.engines.torch.pooling import pool_images, windows_of
from trtnet.engines.torch.tactics.epilogue import Activation
from trtnet.engines.torch.tactics.norm import layer_norm
from trtnet.engines.torch.tactics.quantized.convolution import Window, convolution
from trtnet.engines.torch.tactics.quantized.finish import Finish, Operands, Step
from trtnet.engines.torch.tactics.quantized.passes import (
    Packing,
    encode,
    finish_sums,
    mean_codes,
    pack,
    packed_kernel,
)
from trtnet.engines.torch.tactics.quantized.product import product
from trtnet.engines.torch.tactics.quantized.steps import step_of
from trtnet.engines.torch.tactics.quantized.tiles import TILES

INT8, FP8 = torch.int8, torch.float8_e4m3fn
HALF = torch.float16
TILE = TILES[0]
STEP = step_of(0.037, HALF, INT8)
RELU, GELU = Activation("relu"), Activation("gelu")
PLAIN = Finish(HALF)
PARTS = ("bias", "term", "factor", "other")
# Triton's interpreter loses the carry where it rounds to FP8.
ENCODED = (INT8,) if IS_INTERPRETED else (INT8, FP8)
# Of the sum of magnitudes: tensor cores align the products of FP8 and cut them off at 13 bits; the
# interpreter multiplies FP8 matrices as float16.
ERROR_OF_SUMS = 2.0**-11


def operands(m, n, depth, parts=PARTS, per_tensor=False, other_step=0.0, place=None):
    """Scales, with which sums of codes of `depth` products become values around 1, and `parts`."""
    scales = (values(1, 1 if per_tensor else n, dtype=torch.float32).abs() + 0.1) / depth**0.5
    made = {
        "bias": values(2, n, dtype=torch.float32),
        "term": values(3, n, dtype=HALF),
        "factor": values(4, n, dtype=HALF),
        "other": codes(5, m, n) if other_step else values(5, m, n, dtype=HALF),
    }
    scales = (scales / 5000).expand(n).contiguous()
    given = Operands(scales, **{name: made[name] for name in parts})
    return Operands(*(None if x is None else x.to(place) for x in given))


def on_cpu(given):
    return Operands(*(None if x is None else x.cpu() for x in given))


def check_product(m, n, k, how, tile, place, dtype=INT8, by_engine=False, **options):
    """The product and what follows, by the kernel and by the reference."""
    x, weight = codes(0, m, k, dtype=dtype), codes(1, n, k, dtype=dtype)
    given = operands(m, n, k, other_step=how.other_step, place=place, **options)
    found = product(x.to(place), weight.to(place), given, how, tile, by_engine).cpu()
    sums, given = x.double() @ weight.double().t(), on_cpu(given)
    wanted = finished(sums, given, how)
    if dtype is INT8:
        agree(found, wanted, how)
    else:
        error = ERROR_OF_SUMS * (x.double().abs() @ weight.double().abs().t())
        lies_between(found, wanted, *(finished(sums + e, given, how) for e in (error, -error)))


def lies_between(found, wanted, *ends):
    """Between what follows on the sums as far off as they may be: all that follows is monotonic."""
    assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
    assert len(wanted.double().unique()) > min(20, wanted.numel() // 4)
    low, high = (pick(*(end.double() for end in ends)) for pick in (torch.minimum, torch.maximum))
    assert ((low <= found.double()) & (found.double() <= high)).all()


def agree(found, wanted, how):
    """Equal; or within the last digit of half precision, or a code, where there are functions
    that kernels compute in another way."""
    assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
    exact = {how.first.kind, how.last.kind} <= {"none", "relu", "clip"}
    assert len(wanted.double().unique()) > min(20, wanted.numel() // 4)
    if exact:
        assert torch.equal(found.double(), wanted.double())
        return
    found, wanted = found.double(), wanted.double()
    if how.step is None:
        torch.testing.assert_close(found, wanted, rtol=2e-3, atol=2e-3)
    else:
        assert (found != wanted).double().mean() <= 0.01
        assert ((found - wanted).abs() <= 1).all()


@pytest.mark.parametrize("tile", TILES, ids=str)
def test_tiles(tile, place):
    tile = replace(tile, depth=min(tile.depth, 64))  # the interpreter is slow
    check_product(70, 75, 80, Finish(HALF, RELU, step=STEP), tile, place)


@pytest.mark.parametrize("size", [(1, 1, 1), (1, 40, 33), (49, 1, 64), (17, 33, 128), (300, 10, 16),
                                  (3, 5, 257), (65, 64, 300)], ids=str)  # fmt: skip
def test_odd_sizes(size, place):
    check_product(*size, PLAIN, TILE, place)
    check_product(*size, Finish(HALF, RELU, step=STEP), TILES[2], place)


@pytest.mark.parametrize("size", [(17, 33, 128), (300, 10, 16), (65, 64, 304)], ids=str)
def test_blocks_that_the_copy_engine_brings(size, place):
    tile = TILES[2] if size[1] != 33 else TILE
    check_product(*size, Finish(HALF, RELU, step=STEP), tile, place, by_engine=True)


@pytest.mark.parametrize("parts", [(), *((part,) for part in PARTS), PARTS], ids=str)
@pytest.mark.parametrize("to_codes", [False, True])
@pytest.mark.parametrize("per_tensor", [False, True])
def test_parts(per_tensor, to_codes, parts, place):
    how = Finish(HALF, step=STEP if to_codes else None)
    check_product(20, 24, 32, how, TILE, place, parts=parts, per_tensor=per_tensor)


# Triton's interpreter cuts float32 off where it should round it to bfloat16.
@pytest.mark.parametrize("middle", [*HALVES_OF_PRODUCTS, torch.float32], ids=str)
@pytest.mark.parametrize("to_codes", [False, True])
def test_types_of_layers(to_codes, middle, place):
    step = step_of(0.037, middle, INT8) if to_codes else None
    check_product(20, 24, 32, Finish(middle, step=step), TILE, place, parts=("bias",))


@pytest.mark.parametrize("first", ACTIVATIONS, ids=lambda how: how.kind)
@pytest.mark.parametrize("to_codes", [False, True])
def test_activations(to_codes, first, place):
    last = ACTIVATIONS[ACTIVATIONS.index(first) - 4]
    how = Finish(HALF, first, last, STEP if to_codes else None)
    check_product(19, 21, 48, how, TILE, place)


@pytest.mark.parametrize("parts", [(), ("other",), ("factor",)], ids=str)
def test_a_relu_before_codes(parts, place):
    for first, last in ((RELU, Activation()), (RELU, GELU), (Activation(), RELU)):
        check_product(19, 21, 48, Finish(HALF, first, last, STEP), TILE, place, parts=parts)


@pytest.mark.parametrize("to_codes", [False, True])
def test_another_operand_of_codes(to_codes, place):
    how = Finish(HALF, last=RELU, step=STEP if to_codes else None, other_step=0.021)
    check_product(19, 40, 48, how, TILE, place, parts=("bias", "other"))


@pytest.mark.parametrize("to_codes", [False, True][: len(ENCODED)])
def test_fp8(to_codes, place):
    step = step_of(0.01, HALF, FP8) if to_codes else None
    check_product(33, 40, 96, Finish(HALF, RELU, step=step, codes=FP8), TILE, place, dtype=FP8)


@pytest.mark.parametrize("size", [0.5, 2.0**-7, 0.037, 1 / 127, 0.0999999, 3.1e-5, 900.0], ids=str)
@pytest.mark.parametrize("codes", ENCODED, ids=str)
@pytest.mark.parametrize("dtype", [HALF, torch.bfloat16, torch.float32], ids=str)
def test_every_value_has_its_code(dtype, codes, size, place):
    every = torch.arange(1 << 16, dtype=torch.int32)
    if dtype is torch.float32:
        every = torch.cat([every.short().view(t).float() for t in (HALF, torch.bfloat16)])
    else:
        every = every.short().view(dtype)
    x = every[every.isfinite()]
    step = step_of(size, dtype, codes)
    is_between = codes is INT8 and size in (900.0, 0.5, 2.0**-7)  # of many values, two codes
    assert (step.reciprocal == 0) == (dtype is torch.float32) or is_between
    for how in (step, Step(size, 0.0)):
        found = encode(x.to(place), how, codes).cpu().float()
        assert torch.equal(found, oracle.encoded(x, size, codes).float())


def test_infinite_values_saturate(place):
    x = torch.tensor([float("inf"), -float("inf"), 6e4, -6e4], dtype=HALF, device=place)
    for how in (STEP, Step(STEP.size, 0.0)):
        assert encode(x, how, INT8).tolist() == [127, -128, 127, -128]


IMAGES = [
    ((2, 9, 11, 32), (24, 3, 3), Window((1, 1), (1, 1), (1, 1))),
    ((1, 9, 11, 40), (24, 3, 3), Window((2, 2), (1, 1), (1, 1))),
    ((2, 12, 7, 16), (9, 5, 3), Window((2, 1), (2, 1), (1, 1))),
    ((1, 12, 13, 24), (20, 3, 3), Window((1, 2), (2, 2), (2, 2))),
    ((3, 8, 7, 64), (40, 1, 1), Window((2, 2), (0, 0), (1, 1))),
    ((1, 5, 5, 7), (3, 2, 2), Window((3, 3), (0, 0), (1, 1))),
    ((1, 4, 4, 1), (2, 3, 3), Window((1, 1), (1, 1), (1, 1))),
]


@pytest.mark.parametrize("tile", [TILES[0], TILES[2], TILES[8]], ids=str)
@pytest.mark.parametrize("case", IMAGES, ids=str)
def test_convolutions(case, tile, place):
    size, (out, *kernel), window = case
    tile = replace(tile, depth=min(tile.depth, 32))
    x, weight = codes(0, *size), codes(1, out, *kernel, size[3])
    sums = F.conv2d(x.permute(0, 3, 1, 2).double(), weight.permute(0, 3, 1, 2).double(), None,
                    *window).permute(0, 2, 3, 1).reshape(-1, out)  # fmt: skip
    how = Finish(HALF, last=RELU, step=STEP, other_step=0.02)
    given = operands(len(sums), out, weight[0].numel(), ("bias", "other"), False, 0.02, place)
    found = convolution(x.to(place), weight.to(place), window, given, how, tile).cpu()
    assert torch.equal(found, finished(sums, on_cpu(given), how))


def test_a_part_of_the_channels_of_an_image(place):
    x, weight = codes(0, 2, 6, 6, 48)[..., 16:32], codes(1, 8, 3, 3, 16)
    sums = F.conv2d(x.permute(0, 3, 1, 2).double(), weight.permute(0, 3, 1, 2).double(), padding=1)
    given, window = operands(72, 8, 144, (), place=place), Window((1, 1), (1, 1), (1, 1))
    found = convolution(x.to(place), weight.to(place), window, given, PLAIN, TILE).cpu()
    rows = sums.permute(0, 2, 3, 1).reshape(-1, 8)
    assert torch.equal(found, finished(rows, on_cpu(given), PLAIN))


@pytest.mark.parametrize("dtype", [torch.float32, HALF], ids=str)
@pytest.mark.parametrize(("channels", "kernel", "stride", "padding", "size"), [
    (3, 7, 2, 3, (19, 22)), (3, 16, 16, 0, (35, 38)), (1, 3, 1, 1, (11, 14)),
    (4, 5, 3, 2, (35, 38)), (2, 3, 4, 0, (35, 38))])  # fmt: skip
def test_packed_images(channels, kernel, stride, padding, size, dtype, place):
    """A convolution of few channels, as one of the rows of its windows."""
    h, w = size
    x = values(0, 2, channels, h, w, dtype=dtype)
    weight = codes(1, 12, channels, kernel, kernel)
    wanted = F.conv2d(
        oracle.encoded(x, 0.02, INT8).double(), weight.double(), None, stride, padding
    )
    oh, ow = wanted.shape[2:]
    taps = max(8, 1 << (kernel - 1).bit_length())
    positions = (ow - 1) * stride + 1
    width = -(-max(w + 2 * padding, positions - 1 + taps) // 4) * 4
    how = Packing(h + 2 * padding, width, padding, padding, positions, taps)
    packed = pack(x.to(place), step_of(0.02, dtype, INT8), INT8, how)
    given = operands(2 * oh * ow, 12, kernel * kernel * channels, (), place=place)
    window = Window((stride, stride), (0, 0), (1, 1))
    laid_out = packed_kernel(weight, taps).to(place)
    found = convolution(packed, laid_out, window, given, PLAIN, TILE).cpu()
    rows = wanted.permute(0, 2, 3, 1).reshape(-1, 12)
    assert torch.equal(found, finished(rows, on_cpu(given), PLAIN))
    assert torch.equal(packed.cpu(), oracle.pack(x, Step(0.02, 0.0), INT8, how))


@pytest.mark.parametrize(("window", "stride", "padding"), [
    ((3, 3), (2, 2), (1, 1)), ((2, 3), (2, 1), (1, 0)), ((1, 1), (2, 2), (0, 0))])  # fmt: skip
@pytest.mark.parametrize("dtype", [INT8, HALF, torch.float32], ids=str)
def test_pooled_images(dtype, window, stride, padding, place):
    """Of values too: NaN is kept, and a window of -inf has no larger one."""
    x = codes(0, 2, 20, 9, 12).to(dtype)
    if dtype is not INT8:
        x[0, :3, 4, 5], x[1, 7] = float("nan"), -float("inf")
    wanted = F.max_pool2d(x.double(), window, stride, padding)
    laid_out = x.to(place).contiguous(memory_format=torch.channels_last)
    how = windows_of(x.shape, window, stride, padding, padding, "EXPLICIT_ROUND_DOWN")
    found = pool_images(laid_out, how).cpu()
    assert found.dtype is dtype
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("to_codes", [False, True])
@pytest.mark.parametrize("shape", [(2, 49, 40), (3, 1, 1), (1, 100, 70)], ids=str)
def test_means(shape, to_codes, place):
    x = codes(0, *shape)
    how = Finish(HALF, step=step_of(0.001, HALF, INT8) if to_codes else None)
    found = mean_codes(x.to(place), 0.01, how, 16, 32).cpu()
    wanted = oracle.mean_codes(x, 0.01, how, 0, 0)
    assert found.dtype == wanted.dtype
    limit = 1 if to_codes else 1e-3  # of the order of the sum
    assert (found.double() - wanted.double()).abs().max() <= limit


def test_sums_of_a_library(place):
    sums = torch.randint(-90000, 90000, (50, 70), generator=torch.Generator().manual_seed(0))
    how = Finish(HALF, GELU, RELU, STEP)
    given = operands(50, 70, 64, place=place)
    found = finish_sums(sums.int().to(place), given, how, replace(TILE, columns=32)).cpu()
    agree(found, finished(sums, on_cpu(given), how), how)


@pytest.mark.parametrize("middle", [HALF, torch.float32], ids=str)
def test_normalized_codes(middle, place):
    x, scale, bias = (values(i, *shape, dtype=torch.float32, at=place)
                      for i, shape in enumerate([(20, 96), (96,), (96,)]))  # fmt: skip
    step = step_of(0.02, middle, INT8)
    found = layer_norm(x, scale, bias, 1e-5, middle, 1, step, INT8).cpu()
    normal = F.layer_norm(x.cpu(), (96,), scale.cpu(), bias.cpu(), 1e-5).to(middle)
    wanted = oracle.encoded(normal, 0.02, INT8)
    assert found.dtype is INT8
    assert (found != wanted).double().mean() < 0.005
    assert (found.int() - wanted.int()).abs().max() <= 1


def test_a_gelu_before_codes(place):
    """Of all values around zero: in nearly all cases the code of PyTorch's."""
    x = torch.linspace(-9, 9, 40 * 500).view(40, 500)
    how = Finish(HALF, GELU, step=step_of(9 / 127, HALF, INT8))
    one = Operands(torch.ones(500, device=place), term=None, other=x.half().to(place))
    sums = torch.zeros(40, 500, dtype=torch.int32, device=place)
    later = replace(how, first=Activation(), last=GELU)
    found = finish_sums(sums, one, later, replace(TILE, columns=64)).cpu()
    wanted = oracle.encoded(F.gelu(x.half().float()).half(), 9 / 127, INT8)
    assert (found != wanted).double().mean() < 5e-4
    assert (found.int() - wanted.int()).abs().max() <= 1

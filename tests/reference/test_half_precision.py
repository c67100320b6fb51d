"""Half precision: the functions that round once by themselves, and CUDA against the CPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from trtnet import graph, reference
from trtnet.reference import elementwise, half_precision, pooling


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("function", sorted(half_precision._EVERYWHERE, key=str))
def test_functions_that_round_once_by_themselves(function, dtype):
    generator = torch.Generator().manual_seed(0)
    a, b = (30 * torch.randn(2, 4, 32, 32, generator=generator).to(dtype) for _ in range(2))
    unary = (torch.abs, torch.neg, torch.relu)
    arguments = {
        **dict.fromkeys(unary, (a,)),
        **dict.fromkeys((F.max_pool2d, F.max_pool3d), (a, 3, 2, 1)),
        **dict.fromkeys((torch.amax, torch.amin), (a, (1, 3), True)),
        elementwise.clip: (a, -0.1, 6.3),
        pooling.max_pool: (a, (3, 2), (2, 2)),
    }.get(function, (a, b))
    options = {}
    if function is pooling.max_pool:
        options = {"pre": (0, 1), "post": (1, 0), "mode": "EXPLICIT_ROUND_UP"}
    wide = [x.float() if isinstance(x, torch.Tensor) else x for x in arguments]
    once = function(*wide, **options).to(dtype)
    assert torch.equal(function(*arguments, **options), once)


def relu_of(raw, source):
    return raw.net.add_activation(source, raw.trt.ActivationType.RELU)


def test_a_relu_keeps_its_input(raw, rng):
    x = raw.input(rng.standard_normal((2, 3)).astype(np.float32))
    doubled = raw.net.add_elementwise(x, x, raw.trt.ElementWiseOperation.SUM).get_output(0)
    raw.net.mark_output(relu_of(raw, doubled).get_output(0))
    assert "relu_(" not in reference.compile(graph.read(raw.net)).code


def test_a_relu_leaves_inputs_alone_whatever_they_are_called(raw, rng):
    x = raw.input(rng.standard_normal((2, 3)).astype(np.float32))
    x.name = "half"
    raw.net.mark_output(relu_of(raw, x).get_output(0))
    (array,) = raw.values.values()
    before = array.copy()
    reference.run(raw.net, {"half": array})
    np.testing.assert_array_equal(array, before)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_cuda_gives_what_the_cpu_gives(raw, rng, dtype):
    x = raw.input(rng.standard_normal((2, 8, 9, 9)).astype(dtype))
    kernel = (rng.standard_normal((8, 8, 3, 3)) / 8).astype(dtype)
    conv = raw.net.add_convolution_nd(x, 8, (3, 3), kernel, raw.trt.Weights())
    conv.padding_nd = (1, 1)
    total = raw.net.add_elementwise(conv.get_output(0), x, raw.trt.ElementWiseOperation.SUM)
    relu = raw.net.add_activation(total.get_output(0), raw.trt.ActivationType.RELU)
    raw.net.mark_output(relu.get_output(0))
    read = graph.read(raw.net)
    results = [reference.run(read, raw.values, device=d) for d in ("cpu", "cuda")]
    tolerance = 1e-5 if dtype == np.float32 else 2**-9
    for a, b in zip(*(result.values() for result in results), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)

"""New tensors of PyTorch for results."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")
arrays = pytest.importorskip("trtnet.engines.arrays")

SHAPES = [(), (7,), (2, 3, 4), (1, 1000), (0, 3), (3, 0, 5), (2, 1, 0)]


@pytest.mark.parametrize("shape", SHAPES)
def test_strides_are_those_of_pytorch(shape):
    assert arrays._strides(shape) == torch.empty(shape).stride()


@pytest.fixture
def made(monkeypatch):
    """What PyTorch is asked for: by its quick function, which takes the current device, or not."""
    asked, current = [], SimpleNamespace(device=0)

    def quick(shape, strides, element):
        asked.append("quick")
        return SimpleNamespace(get_device=lambda: current.device, strides=strides)

    stand_in = SimpleNamespace(
        device=lambda kind, index: (kind, index),
        empty=lambda shape, dtype, device: asked.append(device),
        _C=SimpleNamespace(_dynamo=SimpleNamespace(guards=SimpleNamespace())),
    )
    monkeypatch.setitem(arrays.sys.modules, "torch", stand_in)
    stand_in._C._dynamo.guards._empty_strided_cuda = quick
    arrays._torch_gpu.cache_clear()
    yield asked, current, stand_in
    arrays._torch_gpu.cache_clear()


def test_the_quick_function_is_taken_on_the_device_that_is_current(made):
    asked, current, _ = made
    new = arrays._new_torch.__wrapped__()
    assert new((2, 3), "float32", 0).strides == (3, 1)
    current.device = 1
    new((2, 3), "float32", 0)
    assert asked == ["quick", "quick", ("cuda", 0)]


def test_versions_of_pytorch_without_it(made):
    asked, _, stand_in = made
    del stand_in._C._dynamo.guards._empty_strided_cuda
    arrays._new_torch.__wrapped__()((2, 3), "float32", 1)
    assert asked == [("cuda", 1)]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("is_inference", [False, True])
def test_they_are_as_those_of_the_public_function(shape, is_inference):
    with torch.inference_mode(is_inference):
        made = arrays._new_torch()(shape, torch.float16, 0)
        right = torch.empty(shape, dtype=torch.float16, device="cuda:0")
    for name in ("shape", "dtype", "device", "requires_grad"):
        assert getattr(made, name) == getattr(right, name)
    assert made.stride() == right.stride()
    assert made.is_inference() == right.is_inference()

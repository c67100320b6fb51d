"""Sizes and axes that PyTorch's code has in tensors of one integer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import trtnet
from trtnet import reference


class Sized(torch.nn.Module):
    def __init__(self, use):
        super().__init__()
        self.use = use
        self.register_buffer("n", torch.tensor(4))
        self.register_buffer("one", torch.tensor([1], dtype=torch.int32))

    def forward(self, x):
        return self.use(self, x)


USES = {
    "view": lambda m, x: x.view(2, m.n, 6),
    "reshape": lambda m, x: x.reshape((2, m.n, -1)),
    "expand": lambda m, x: x[:1].expand(m.n, 3, 8),
    "narrow": lambda m, x: x.narrow(2, m.n, 3),
    "slice": lambda m, x: x[:, m.one :, m.n :],
    "index": lambda m, x: x[:, :, m.n],
    "split": lambda m, x: x.split(m.n, 2)[0],
    "roll": lambda m, x: x.roll(m.n, 2),
    "repeat": lambda m, x: x.repeat(1, m.n, 1),
    "zeros": lambda m, x: x + torch.zeros(m.n - 1, 8),
    "pad": lambda m, x: F.pad(x, (m.n, 0)),
    "pad by half": lambda m, x: F.pad(x, (m.n // 2, m.n - m.n // 2), mode="reflect"),
    "interpolate": lambda m, x: F.interpolate(x, size=m.n),
    "adaptive": lambda m, x: F.adaptive_avg_pool1d(x, m.n),
    "topk": lambda m, x: x.topk(m.n, 2).values,
    "sum": lambda m, x: x.sum(m.n - 2),
    "transpose": lambda m, x: x.transpose(m.n - 3, m.n - 2),
    "unsqueeze": lambda m, x: x.unsqueeze(m.one),
    "pool": lambda m, x: F.avg_pool1d(x, m.n // 2),
}


@pytest.mark.parametrize("use", USES.values(), ids=list(USES))
def test_a_tensor_of_one_integer_is_a_size(use):
    module, x = Sized(use), torch.arange(48.0).reshape(2, 3, 8)
    try:
        wanted = module(x)
    except TypeError:
        pytest.skip("PyTorch takes no tensor here")
    net = trtnet.Network("rtx")
    net.output("y", trtnet.from_torch(module, way="direct")(net.input("x", (2, 3, 8))))
    found = np.asarray(reference.run(net, {"x": x.numpy()})["y"])
    assert found.shape == tuple(wanted.shape)
    assert np.array_equal(found, wanted.numpy())

"""Patterns of code written for PyTorch that work when its imports change."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from porting import both, compare, rewritten

import trtnet

HEAD = """
import math
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
"""

CONSTRUCTORS = """
class MeanShift(nn.Conv2d):
    def __init__(self, mean=(0.4, 0.5, 0.6), std=(1.0, 2.0, 4.0)):
        super(MeanShift, self).__init__(3, 3, kernel_size=1)
        std = torch.Tensor(std)
        self.weight.data = torch.eye(3).view(3, 3, 1, 1) / std.view(3, 1, 1, 1)
        self.bias.data = -1 * torch.Tensor(mean) / std

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.shift = MeanShift()
        self.w = nn.Parameter(torch.Tensor(1, 3, 1, 1))
        self.w.data.uniform_(-1, 1)
        self.table = torch.from_numpy(np.linspace(0.0, 1.0, 3)).float().view(1, 3, 1, 1)
        self.index = torch.LongTensor([2, 0, 1])
        self.register_buffer("eye", torch.FloatTensor(3, 1, 1).fill_(0.5))

    def forward(self, x):
        x = self.shift(x) * self.w + self.table
        return x[:, self.index] - self.eye
"""

TYPES = """
from torch.autograd import Variable

class Net(nn.Module):
    def forward(self, x):
        x = Variable(x)
        mask = (x > 0).type(torch.LongTensor)
        y = x.type(torch.cuda.FloatTensor) if x.is_cuda else x.type("torch.FloatTensor")
        zeros = Variable(torch.zeros(3, 4)).type(x.type())
        assert x.ndimension() == 3 and x.is_leaf and x.grad is None and not x.is_sparse
        return mask.type_as(y) * y + zeros
"""

WEIGHT_NORM = """
from torch.nn.utils import weight_norm, remove_weight_norm, clip_grad_norm_

def init_weights(m, mean=0.0, std=0.01):
    if m.__class__.__name__.find("Conv") != -1:
        m.weight.data.normal_(mean, std)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.ups = nn.ModuleList([weight_norm(nn.Conv1d(3, 4, 3)), nn.Conv1d(4, 2, 1)])
        self.ups.apply(init_weights)

    def forward(self, x):
        for layer in self.ups:
            x = layer(x)
        return x
"""

LOSSES = """
from torch.nn import CrossEntropyLoss, DataParallel
from torch.nn.common_types import _size_2_t

class Net(torch.jit.ScriptModule):
    def __init__(self):
        super().__init__()
        self.line = nn.Linear(4, 2)
        self.criterion = nn.MSELoss(reduction="sum")
        self.loss = CrossEntropyLoss()

    @torch.jit.script_method
    def forward(self, x):
        return self.line(x)
"""

QUERIES = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.query = nn.Embedding(5, 4)
        self.attention = nn.MultiheadAttention(4, 2)
        self.decoder = nn.TransformerDecoderLayer(4, 2, 8)

    def forward(self, x):
        x = x.transpose(0, 1)
        query = self.query.weight.unsqueeze(1).repeat(1, x.shape[1], 1)
        own = self.attention(query, query, query)[0]
        return self.decoder(own, x), self.attention(query, x, x)
"""


@pytest.mark.parametrize("batch", [None, "n"])
@pytest.mark.parametrize(
    ("source", "shape"),
    [
        (CONSTRUCTORS, (2, 3, 4, 4)),
        (TYPES, (2, 3, 4)),
        (WEIGHT_NORM, (2, 3, 5)),
        (QUERIES, (2, 3, 4)),
    ],
    ids=["constructors", "types", "weight_norm", "queries"],
)
def test_patterns(source: str, shape: tuple[int, ...], batch: Any) -> None:
    value = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    compare(HEAD + source, value, batch)


def test_names_of_training() -> None:
    original, ported = both(HEAD + LOSSES.replace("torch.jit.ScriptModule", "nn.Module").replace(
        "    @torch.jit.script_method\n", ""))[0], both(HEAD)[1]  # fmt: skip
    exec(rewritten(HEAD + LOSSES), ported.__dict__)
    state = original.Net().state_dict()
    net = ported.Net()
    net.load_state_dict(state)
    network = trtnet.Network("rtx")
    assert net(network.input("x", (2, 4))).shape == (2, 2)
    assert isinstance(net, trtnet.nn.Module)
    assert not isinstance(trtnet.nn.Linear(1, 1), trtnet.jit.ScriptModule)
    assert isinstance(net.loss, torch.nn.CrossEntropyLoss)
    with pytest.raises(AttributeError, match=r"trtnet has no torch\.nn\.Linar; did you mean"):
        _ = trtnet.nn.Linar


def test_tensors_of_values() -> None:
    made = trtnet.Tensor([[1, 2], [3, 4]])
    assert made.dtype is torch.float32
    assert made.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert trtnet.Tensor(2, 3).shape == (2, 3)
    assert trtnet.Tensor().numel() == 0
    assert trtnet.Tensor(trtnet.nn.Parameter(torch.ones(2))).tolist() == [1.0, 1.0]
    assert trtnet.LongTensor([1, 2]).to(trtnet.float32).dtype is torch.float32
    array = np.zeros(2, np.float32)
    trtnet.from_numpy(array).add_(1)
    assert array.tolist() == [1.0, 1.0]
    network = trtnet.Network("rtx")
    x = network.input("x", ("n", 3), dtype="int64")
    assert trtnet.LongTensor(x).dtype is trtnet.int64
    for make in (
        lambda: trtnet.Tensor(x.shape[0], 3),
        lambda: trtnet.FloatTensor(x.shape[0], 3),
        lambda: trtnet.Tensor(x),
        lambda: trtnet.Tensor([x.shape[0], 1]),
    ):
        with pytest.raises(trtnet.UnsupportedError, match="sizes and data are known"):
            make()
    assert x.type() == "torch.LongTensor"
    with pytest.raises(trtnet.UnsupportedError, match="float64"):
        x.type(torch.DoubleTensor)


EINOPS = """
from einops import rearrange, reduce, repeat, pack, unpack, einsum
from einops.layers.torch import Rearrange, Reduce, EinMix

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.patches = nn.Sequential(
            Rearrange("b c (h p1) (w p2) -> b (h w) (p1 p2 c)", p1=2, p2=3),
            nn.LayerNorm(18),
            nn.Linear(18, 8),
        )
        self.cls_token = nn.Parameter(torch.randn(1, 1, 8))
        self.table = repeat(torch.arange(8.0), "d -> 1 n d", n=3)
        self.mix = EinMix("b n c -> b n o", weight_shape="c o", bias_shape="o", c=8, o=4)
        self.pool = Reduce("b n c -> b c", "max")

    def forward(self, x):
        x = self.patches(x)
        b, n, _ = x.shape
        cls = repeat(self.cls_token, "1 1 d -> b 1 d", b=b)
        own = repeat(self.table, "1 n d -> b n d", b=b)
        x = torch.cat((cls, x, own), dim=1)
        packed, sizes = pack([x, cls], "b * d")
        first, second = unpack(packed, sizes, "b * d")
        q = rearrange(first, "b n (h d) -> b h n d", h=2)
        scores = einsum(q, q, "b h i d, b h j d -> b h i j")
        y = rearrange(scores, "b h i j -> b (i j) h")
        z = torch.einsum("bhij,bhjd->bhid", scores, q)
        return y, z, self.pool(self.mix(first)), reduce(second, "b 1 d -> b", "sum"), reduce(
            x, "b (g n) d -> b g d", "mean", g=2 if n % 2 == 0 else 1)
"""


@pytest.mark.parametrize("batch", [None, "n"])
def test_einops(batch: Any) -> None:
    pytest.importorskip("einops")
    value = np.random.default_rng(2).standard_normal((2, 3, 4, 6)).astype(np.float32)
    for _ in range(2):  # nothing that einops keeps belongs to the first network
        compare(HEAD + EINOPS, value, batch)

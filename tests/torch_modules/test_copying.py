"""A private copy has the structure that ``copy.deepcopy`` gives, and shares the tensors."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from trtnet.torch_modules.copying import private_copy


class Holder(nn.Module):
    """What modules hold besides parameters."""

    def __init__(self):
        super().__init__()
        self.cache = {}
        self.first, self.second = Cached(self.cache), Cached(self.cache)
        self.tied = nn.Linear(2, 2)
        self.tied.weight = self.first.linear.weight
        self.hidden = [nn.Linear(2, 2)]
        self.register_buffer("scale", torch.ones(2), persistent=False)
        self.sizes, self.table = (1, [2]), {"a": {"b": self.scale}}
        self.same = self.first
        self.nothing = None
        self.register_forward_pre_hook(lambda module, args: args)


class Cached(nn.Module):
    def __init__(self, cache):
        super().__init__()
        self.cache, self.linear = cache, nn.Linear(2, 2)


class Stateful(nn.Module):
    """Has its own way to be copied."""

    def __init__(self):
        super().__init__()
        self.inner, self.lost = nn.Linear(2, 2), 3

    def __getstate__(self):
        return {name: value for name, value in vars(self).items() if name != "lost"}

    def __setstate__(self, state):
        super().__setstate__(state)
        self.lost = None


def test_what_is_shared_inside_stays_shared():
    module = Holder()
    made = private_copy(module)
    assert made.cache is made.first.cache is made.second.cache is not module.cache
    assert made.same is made.first is not module.first
    assert made.tied.weight is made.first.linear.weight is module.tied.weight
    assert made.hidden[0] is not module.hidden[0]
    assert made.sizes == (1, [2])
    assert made.sizes[1] is not module.sizes[1]
    assert made.table["a"]["b"] is made.scale is module.scale
    assert "scale" in made._non_persistent_buffers_set
    assert len(made._forward_pre_hooks) == 1
    made.register_buffer("more", torch.ones(1))
    made.hidden.append(3)
    assert not hasattr(module, "more")
    assert len(module.hidden) == 1


@pytest.mark.parametrize(
    "make",
    [
        Holder,
        Stateful,
        lambda: nn.Sequential(Stateful(), nn.LSTM(2, 2), nn.MultiheadAttention(2, 1)),
        lambda: parametrizations.spectral_norm(nn.Linear(2, 2)),
        lambda: nn.Sequential(torch.jit.script(nn.Linear(2, 2)), nn.ReLU()),
        lambda: nn.ParameterDict({"a": nn.Parameter(torch.ones(2))}),
    ],
)
def test_the_structure_is_that_of_deepcopy(make):
    module = make().eval()
    made, wanted = private_copy(module), copy.deepcopy(module)
    assert repr(made) == repr(wanted)
    for part, other in zip(made.modules(), wanted.modules(), strict=True):
        assert type(part).__mro__[1:] == type(other).__mro__[1:]
        assert vars(part).keys() == vars(other).keys()
    for name, value in wanted.state_dict().items():
        assert torch.equal(made.state_dict()[name], value)

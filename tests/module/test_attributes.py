"""Attributes, buffers, hooks and casts of modules against PyTorch's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import trtnet
from trtnet import nn
from trtnet.errors import UnsupportedError, WeightsError


def test_assignments_are_pytorchs() -> None:
    def build(m: Any) -> Any:
        module = m.Module()
        module.a = m.Parameter(torch.ones(1))
        module.b = m.Parameter(torch.ones(2))
        module.a = m.Parameter(torch.zeros(3))  # keeps its place
        module.b = None
        module.child = m.ReLU()
        module.late = None
        module.late = m.Tanh()
        module.register_buffer("table", torch.arange(3))
        module.register_buffer("scratch", torch.ones(1), persistent=False)
        module.register_buffer("nothing", None)
        module.table = torch.arange(4)
        module.own = m.Buffer(torch.ones(5))
        module.child = m.Parameter(torch.ones(4))  # a parameter instead of the module
        module.extra = m.Linear(2, 2)
        module.extra = None
        module.gone = m.Linear(2, 2)
        del module.gone
        return module

    ours, theirs = build(nn), build(torch.nn)
    for method in ("named_parameters", "named_buffers", "named_children", "named_modules"):
        assert [n for n, _ in getattr(ours, method)()] == [n for n, _ in getattr(theirs, method)()]
    assert {k: v.tolist() for k, v in ours.state_dict().items()} == {
        k: v.tolist() for k, v in theirs.state_dict().items()
    }
    assert list(ours.state_dict(prefix="p.")) == list(theirs.state_dict(prefix="p."))
    assert ours.b is ours.nothing is ours.extra is None
    assert not hasattr(ours, "gone")
    assert {"a", "table", "late"} <= set(dir(ours))
    assert [p.numel() for p in ours.parameters()] == [3, 4]
    assert len(list(ours.buffers())) == 3


def test_what_cannot_be_assigned() -> None:
    module = nn.Linear(2, 2)
    with pytest.raises(TypeError, match=r"Linear\.weight takes a Parameter or None, got Tensor"):
        module.weight = torch.ones(2, 2)
    holder = nn.Sequential(nn.ReLU())
    with pytest.raises(TypeError, match="takes a Module or None, got function"):
        holder._modules and setattr(holder, "0", lambda x: x)
    with pytest.raises(KeyError, match="without dots"):
        module.register_parameter("a.b", None)
    with pytest.raises(KeyError, match="'forward' already"):
        module.register_buffer("forward", None)
    with pytest.raises(AttributeError, match="nothing"):
        del module.nothing
    module.weight = torch.nn.Parameter(torch.ones(2, 2))  # PyTorch's own is taken over
    assert isinstance(module.weight, nn.Parameter)


def test_paths(raises: Any) -> None:
    model = nn.Sequential(nn.Sequential(nn.BatchNorm2d(2)))
    assert model.get_submodule("") is model
    assert isinstance(model.get_submodule("0.0"), nn.BatchNorm2d)
    assert model.get_parameter("0.0.weight").shape == (2,)
    assert model.get_buffer("0.0.running_var").shape == (2,)
    model.set_submodule("0.0", nn.Identity())
    assert isinstance(model[0][0], nn.Identity)
    for call in (
        lambda: model.get_submodule("0.1"),
        lambda: model.get_parameter("0.0.weight"),
        lambda: model.set_submodule("0.1", nn.ReLU(), strict=True),
    ):
        with pytest.raises(AttributeError, match="at '0"):
            call()


def test_hooks(net: trtnet.Network) -> None:
    calls: list[Any] = []
    model = nn.Sequential(nn.Identity(), nn.Identity())
    handle = model[0].register_forward_hook(lambda m, args, out: out * 2)
    model[1].register_forward_pre_hook(lambda m, args: (args[0] + 1,))
    model[1].register_forward_hook(
        lambda m, args, kwargs, out: calls.append(kwargs), with_kwargs=True
    )
    net.output("y", model(net.input("x", (2,))))
    got = trtnet.reference.run(trtnet.graph.read(net.definition), {"x": np.float32([1, 2])})
    assert got["y"].tolist() == [3, 5]
    assert calls == [{}]
    handle.remove()
    assert not model[0]._forward_hooks


def test_hooks_of_loading() -> None:
    class Renamed(nn.Linear):
        def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
            if f"{prefix}w" in state_dict:
                state_dict[f"{prefix}weight"] = state_dict.pop(f"{prefix}w").reshape(2, 2)
            super()._load_from_state_dict(state_dict, prefix, *args)

    seen = []
    model = nn.Sequential(Renamed(2, 2, bias=False), nn.PReLU())
    model[1]._register_load_state_dict_pre_hook(lambda state, prefix, *rest: seen.append(prefix))
    model.register_load_state_dict_post_hook(lambda module, keys: seen.append(keys.missing_keys))
    state = {"0.w": torch.arange(4.0), "1.weight": torch.ones(1)}
    model.load_state_dict(state)
    assert model[0].weight.tolist() == [[0, 1], [2, 3]]
    assert seen == ["1.", []]
    assert "0.w" in state  # the caller's is left as it was


def test_buffers_are_loaded_over_in_their_type() -> None:
    module = nn.Module()
    module.register_buffer("index", torch.arange(3))
    module.load_state_dict({"index": torch.tensor([2.0, 1.0, 0.0])})
    assert module.index.dtype == trtnet.int64
    assert module.index.tolist() == [2, 1, 0]


def test_shared_parameters_have_both_names(raises: Any) -> None:
    def tied(m: Any) -> Any:
        module = m.Module()
        module.a, module.b = m.Linear(2, 2, bias=False), m.Linear(2, 2, bias=False)
        module.b.weight = module.a.weight
        return module

    ours, theirs = tied(nn), tied(torch.nn)
    assert ours.load_state_dict(theirs.state_dict()) == ([], [])
    assert list(ours.state_dict()) == list(theirs.state_dict()) == ["a.weight", "b.weight"]
    ours.load_state_dict({"b.weight": torch.ones(2, 2)})  # files of safetensors hold it once
    assert ours.a.weight.tolist() == [[1, 1], [1, 1]]
    assert len(list(ours.parameters())) == 1
    with raises(WeightsError, "missing: a.weight"):
        ours.load_state_dict({})


def test_modes_and_casts(raises: Callable[..., Any]) -> None:
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.BatchNorm1d(2))
    assert model.train() is model.eval() is model.train(False) is model
    assert not model.training
    nn.init.constant_(model[0].weight, 1 / 3)
    assert model.to("cuda") is model.cuda() is model.cpu() is model
    assert model.half()[0].weight.dtype == trtnet.float16
    assert model.float()[0].weight.dtype == trtnet.float32
    assert model[0].weight.tolist()[0][0] == float(np.float16(1 / 3))
    nn.init.constant_(model[0].weight, 1 / 3)
    model.bfloat16()
    assert model[0].weight[0, 0] == torch.tensor(1 / 3).bfloat16().float()
    assert model.to(torch.float64)[0].weight.data.dtype == torch.float64
    assert model.requires_grad_(False)[0].weight.requires_grad is False
    with raises(UnsupportedError, "floating-point types"):
        model.to(torch.int32)


def test_keywords_and_attributes_of_layers() -> None:
    for make in (
        lambda m, **f: m.Conv2d(4, 8, (3, 1), 2, padding="valid", groups=2, **f),
        lambda m, **f: m.ConvTranspose2d(4, 8, 3, 2, 1, 1, **f),
        lambda m, **f: m.Linear(3, 4, bias=False, **f),
        lambda m, **f: m.BatchNorm2d(3, eps=1e-3, momentum=None, affine=False, **f),
        lambda m, **f: m.SyncBatchNorm(3, **f),
        lambda m, **f: m.LayerNorm(5, elementwise_affine=False, **f),
        lambda m, **f: m.GroupNorm(2, 4, affine=False, **f),
        lambda m, **f: m.Embedding(5, 3, padding_idx=1, **f),
        lambda m, **f: m.PReLU(3, init=0.1, **f),
        lambda m, **f: m.MultiheadAttention(8, 2, 0.1, batch_first=True, kdim=8, **f),
        lambda m, **f: m.Dropout(0.3, inplace=True),
        lambda m, **f: m.LeakyReLU(0.3, inplace=True),
        lambda m, **f: m.MaxPool2d(3, padding=1),
        lambda m, **f: m.AvgPool2d(2),
    ):
        ours = make(nn, device="cpu", dtype=trtnet.float32)
        theirs = make(torch.nn, device="cpu", dtype=torch.float32)
        assert list(dict(ours.named_parameters())) == list(dict(theirs.named_parameters()))
        wanted = {
            name: getattr(theirs, name)
            for name in type(theirs).__constants__
            if name not in ("bias", "return_indices", "divisor_override", "num_heads")
        } if hasattr(type(theirs), "__constants__") else {}  # fmt: skip
        for name, value in wanted.items():
            got = getattr(ours, name)
            assert got == value, f"{type(ours).__name__}.{name}"
    with pytest.raises(UnsupportedError, match="floating-point type"):
        nn.Linear(2, 2, dtype=torch.int32)

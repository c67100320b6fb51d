"""`from_torch` of what other people's modules do besides calling functions of PyTorch."""

from __future__ import annotations

import collections
import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch.overrides import handle_torch_function, has_torch_function_unary

import trtnet
from trtnet.errors import ShapeError, UnsupportedError

F = torch.nn.functional


class Function(torch.nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: torch.Tensor) -> Any:
        return self.function(*inputs)


@dataclass
class Output:
    logits: torch.Tensor
    features: tuple[torch.Tensor, ...] = ()
    rest: dict[str, Any] = field(default_factory=dict)


class Ordered(collections.OrderedDict[str, Any]):
    pass


class Listed(list[Any]):
    pass


Pair = collections.namedtuple("Pair", "a b")


def test_containers_of_outputs(against_torch: Any) -> None:
    def run(x: torch.Tensor) -> Any:
        output = Output(x + 1, (x * 2,), {"a": [x * 3]})
        return output, Ordered(a=x * 4), Listed([x * 5, None]), Pair(x * 6, {"b": x * 7})

    against_torch(Function(run), (2, 3), dynamic=[("N", 3)])
    net = trtnet.Network("rtx")
    output, ordered, listed, pair = trtnet.from_torch(Function(run))(net.input("x", (2, 3)))
    assert isinstance(output, Output)
    assert isinstance(output.rest["a"][0], trtnet.Tensor)
    assert (type(ordered), type(listed), type(pair)) == (Ordered, Listed, Pair)


@torch.jit.script
def relu(x: torch.Tensor) -> torch.Tensor:
    return x * 3 + 1


@torch.jit.script
def size(x: torch.Tensor) -> torch.Tensor:
    return x * 3 + 1


class Scripted(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x).relu()  # type: ignore[no-any-return]


@pytest.mark.filterwarnings("ignore")
def test_torchscript(against_torch: Any) -> None:
    against_torch(Function(lambda x: relu(x) + size(x)), (2, 3))
    against_torch(torch.nn.Sequential(torch.jit.script(Scripted())), (2, 3), dynamic=[("N", 3)])
    against_torch(torch.jit.trace(Scripted(), torch.ones(2, 3)), (2, 3))
    net = trtnet.Network("rtx")
    module = trtnet.from_torch(torch.nn.Sequential(torch.jit.script(Scripted())))
    module(net.input("x", (2, 3)))
    assert list(module.state_dict()) == ["0.linear.weight", "0.linear.bias"]


def tanh(x: Any) -> Any:
    """Of another package: no ``torch.tanh``, but overridable as PyTorch's functions are."""
    if has_torch_function_unary(x):
        return handle_torch_function(tanh, (x,), x)
    return x * 11


def test_functions_of_others_with_names_of_pytorchs(against_torch: Any) -> None:
    against_torch(Function(tanh), (2, 3), dynamic=[("N", 3)])


def test_operators_of_others_are_refused() -> None:
    with torch.library._scoped_library("trtnet_test", "FRAGMENT") as library:
        library.define("relu(Tensor x) -> Tensor")
        library.impl("relu", lambda x: x * 7, "CompositeExplicitAutograd")
        for operator in (torch.ops.trtnet_test.relu, torch.ops.trtnet_test.relu.default):
            net = trtnet.Network("rtx")
            with pytest.raises(UnsupportedError, match="trtnet_test::relu"):
                trtnet.from_torch(Function(operator), way="direct")(net.input("x", (2, 3)))


def test_copies_of_tensors(against_torch: Any) -> None:
    def run(x: torch.Tensor) -> Any:
        x = x * 1
        deep, shallow = copy.deepcopy(x), copy.copy(x)
        deep += 1
        shallow *= 2
        return x, deep, shallow

    against_torch(Function(run), (2, 3), dynamic=[("N", 3)])


def test_memory_that_is_written_after_it_was_made(against_torch: Any) -> None:
    def run(x: torch.Tensor) -> Any:
        out = torch.empty_like(x)
        out[..., ::2], out[..., 1::2] = x[..., 1::2], x[..., ::2]
        new = x.new_empty(x.shape[0], 2)
        new[:] = x[:, :2]
        return out, new, torch.empty(x.shape[0], 2, dtype=x.dtype).fill_(2.0) + new

    against_torch(Function(run), (2, 4), dynamic=[("N", 4)])


@pytest.mark.parametrize(
    "equation", ["bhid,bhjd->bhij", "bcn,ncd,bdn->bn", "bij,bjk->bik", "bi,bj->"]
)
def test_einsum_of_dynamic_axes(equation: str, against_torch: Any) -> None:
    sizes = dict(zip("bhijkcnd", (2, 3, 4, 5, 6, 3, 4, 5), strict=True))
    terms = equation.split("->")[0].split(",")
    shapes = [[sizes[c] for c in term] for term in terms]
    dynamic = [[c.upper() if c in "bi" else sizes[c] for c in term] for term in terms]
    against_torch(Function(lambda *xs: torch.einsum(equation, *xs)), *shapes, dynamic=dynamic)


def test_causal_attention_of_dynamic_length(against_torch: Any) -> None:
    module = Function(lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True))
    against_torch(module, (2, 5, 4), dynamic=[("N", "T", 4)])


def test_slices_from_a_computed_size(against_torch: Any) -> None:
    module = Function(lambda x: x[..., x.shape[-1] // 2 :, x.shape[-2] // 2 :])
    against_torch(module, (2, 5, 6), dynamic=[("N", "H", "W")])


def _assigned(x: torch.Tensor, m: torch.Tensor) -> torch.Tensor:
    x = x.clone()
    x[m.expand_as(x)] = LEAST
    x[:, 0, 1] = LEAST
    return x


MASK = np.array([[1, 1, 0, 0, 1], [1, 1, 1, 1, 0]], bool)
LEAST = torch.finfo(torch.float32).min


@pytest.mark.parametrize(
    "mask",
    [
        lambda x, m: x.masked_fill(~m, LEAST),
        lambda x, m: torch.where(m, x, LEAST),
        lambda x, m: torch.where(m, x, torch.tensor(LEAST)),
        lambda x, m: torch.where(m, x, torch.full_like(x, LEAST)),
        lambda x, m: torch.where(m, x, torch.full((5, 5), LEAST)),
        lambda x, m: x + (1.0 - m.to(x.dtype)) * LEAST,
        lambda x, m: x + (1.0 - m.to(x.dtype)) * -1e9,
        lambda x, m: torch.max(torch.where(m, x, -torch.inf), torch.tensor(LEAST)),
        lambda x, m: x.masked_fill(~m, -torch.inf).clamp(LEAST, -LEAST),
        lambda x, m: x.masked_fill(~m, -torch.inf).clamp(min=LEAST),
        lambda x, m: _assigned(x, ~m),
    ],
)
@pytest.mark.parametrize("precision", ["fp16", "mixed"])
def test_limits_of_float32_beside_float16(mask: Any, precision: str, against_torch: Any) -> None:
    def run(x: torch.Tensor, m: torch.Tensor) -> torch.Tensor:
        x = F.linear(x, torch.eye(8).to(x))  # is float16 under these policies
        scores = torch.matmul(x, x.transpose(1, 2))
        return mask(scores, m[:, None]).softmax(-1)  # type: ignore[no-any-return]

    against_torch(Function(run), (2, 5, 8), MASK, precision=precision, rtol=2e-2)


def test_numbers_that_are_no_limits_are_not_changed_silently() -> None:
    net = trtnet.Network("rtx", precision="fp16")
    with pytest.raises(trtnet.TrtnetError, match="does not fit float16"):
        trtnet.from_torch(Function(lambda x: F.linear(x, torch.eye(2)) * 1e6))(
            net.input("x", (2, 2))
        )


def test_errors_about_sizes_name_the_line() -> None:
    for function in (lambda x: x[: int(x.shape[0] / 2)], lambda x: x[: len(x) - 1]):
        net = trtnet.Network("rtx")
        with pytest.raises(ShapeError) as caught:
            trtnet.from_torch(Function(function), way="direct")(net.input("x", ("N", 3)))
        assert caught.value.line is not None
        assert __file__ in caught.value.line
        assert caught.value.fix

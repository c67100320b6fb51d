"""`from_torch`: unmodified modules of PyTorch define networks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import trtnet
from trtnet.errors import NetworkError, UnsupportedError, UsageError
from trtnet.torch_modules.conversion import TorchModule

F = torch.nn.functional


class Block(torch.nn.Module):
    """Functions, methods, operators and parameters of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.norm = torch.nn.LayerNorm(8)
        self.scale = torch.nn.Parameter(torch.full((8,), 0.5))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = F.gelu(self.conv(x))
        b, c, h, w = y.shape
        tokens = self.norm(y.flatten(2).transpose(1, 2)) * self.scale
        return tokens.reshape(b, h, w, c), torch.cat([1 - y, y.mean((2, 3), keepdim=True) + y], 1)


def test_a_module_defines_a_network(check_module: Any) -> None:
    torch.manual_seed(0)
    block = Block().eval()
    net = trtnet.Network("rtx")
    outputs = trtnet.from_torch(block)(net.input("x", (2, 3, 5, 4)))
    for index, output in enumerate(outputs):
        net.output(f"y{index}", output)
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 4)).astype(np.float32)
    got = trtnet.reference.run(net.definition, {"x": x}, float64=True)
    with torch.no_grad():
        wanted = block.double()(torch.from_numpy(x).double())
    for index, want in enumerate(wanted):
        np.testing.assert_allclose(got[f"y{index}"], want.numpy(), rtol=1e-9, atol=1e-9)


def test_paths_names_and_classes_are_pytorchs() -> None:
    module = trtnet.from_torch(Block())
    assert [path for path, _ in module.named_modules()] == ["", "conv", "norm"]
    assert type(module).__name__ == "Block"
    assert list(module.state_dict()) == list(Block().state_dict())
    kinds = {path: part.computes for path, part in module.named_modules()}
    assert kinds == {"": "", "conv": "convolution", "norm": "normalization"}
    net = trtnet.Network("rtx")
    module(net.input("x", (1, 3, 4, 4)))
    assert {"conv", "norm"} <= net.module_outputs.keys()


def test_weights_are_shared_and_new_ones_stay_inside() -> None:
    block = Block()
    module = trtnet.from_torch(block)
    weight = block.conv.weight
    assert np.shares_memory(module.state_dict()["conv.weight"], weight.detach().numpy())
    state = {name: array + 1 for name, array in module.state_dict().items()}
    before = weight.detach().clone()
    module.load_state_dict(state)
    assert torch.equal(block.conv.weight, before)
    np.testing.assert_array_equal(module.state_dict()["conv.weight"], before.numpy() + 1)


def test_the_original_is_not_changed() -> None:
    block = Block().train()
    attributes = {name: set(vars(part)) for name, part in block.named_modules()}
    module = trtnet.from_torch(block)
    module(trtnet.Network("rtx").input("x", (1, 3, 4, 4)))
    assert block.training
    assert {name: set(vars(part)) for name, part in block.named_modules()} == attributes


def test_one_module_fills_several_networks() -> None:
    module = trtnet.from_torch(Block())
    counts = set()
    for _ in range(2):
        net = trtnet.Network("rtx")
        module(net.input("x", (1, 3, 4, 4)))
        counts.add(net.definition.num_layers)
    assert len(counts) == 1


def test_a_module_inside_a_module_of_trtnet() -> None:
    class Outer(trtnet.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = trtnet.from_torch(torch.nn.Sequential(torch.nn.Linear(4, 4)))

        def forward(self, x: trtnet.Tensor) -> Any:
            return self.inner(x) + 1

    net = trtnet.Network("rtx")
    outer = Outer()
    outer(net.input("x", (1, 4)))
    assert list(outer.state_dict()) == ["inner.0.weight", "inner.0.bias"]
    assert "inner.0" in net.module_outputs


def test_only_modules_of_pytorch_are_taken(raises: Any) -> None:
    with raises(UsageError, "torch.nn.Module", "got: function"):
        trtnet.from_torch(lambda x: x)  # type: ignore[arg-type]


def test_an_output_that_is_a_constant_is_refused(raises: Any) -> None:
    class Constant(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.zeros(3)

    net = trtnet.Network("rtx")
    with raises(NetworkError, "does not depend on its inputs", "(3,)"):
        trtnet.from_torch(Constant())(net.input("x", (1, 4)))


def test_errors_name_the_module_and_the_line() -> None:
    class Inner(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.linalg.svdvals(x)

    net = trtnet.Network("rtx")
    with pytest.raises(trtnet.UnsupportedError) as caught:
        trtnet.from_torch(torch.nn.Sequential(Inner()))(net.input("x", (4, 4)))
    assert caught.value.module == "0"
    assert caught.value.line is not None
    assert __file__ in caught.value.line
    assert "torch.linalg.svdvals(x)" in caught.value.line


@pytest.mark.parametrize("child", ["shared", "tied"])
def test_shared_modules_and_parameters(child: str) -> None:
    class Twice(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = torch.nn.Linear(4, 4)
            self.b = self.a if child == "shared" else torch.nn.Linear(4, 4)
            self.b.weight = self.a.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.b(self.a(x))  # type: ignore[no-any-return]

    original = Twice()
    module = trtnet.from_torch(original)
    assert isinstance(module, TorchModule)
    assert set(original.state_dict()) >= set(module.state_dict())
    net = trtnet.Network("rtx")
    net.output("y", module(net.input("x", (2, 4))))
    x = np.ones((2, 4), np.float32)
    got = trtnet.reference.run(net.definition, {"x": x})["y"]
    with torch.no_grad():
        np.testing.assert_allclose(got, original(torch.from_numpy(x)).numpy(), rtol=1e-5)


@pytest.mark.parametrize("kind", [torch.nn.DataParallel, torch.compile])
@pytest.mark.filterwarnings("error")
def test_modules_that_wrap_another(kind: Any) -> None:
    inner = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)).eval()
    wrapped = kind(inner)
    if kind is torch.nn.DataParallel:
        wrapped.device_ids = [0, 1]  # as on a machine with two GPUs
    module = trtnet.from_torch(torch.nn.Sequential(wrapped))
    assert [f"0.{name}" for name in wrapped.state_dict()] == list(module.state_dict())
    net = trtnet.Network("rtx")
    net.output("y", module(net.input("x", ("N", 3, 6, 6))))
    x = torch.linspace(-2, 2, 2 * 3 * 36).sin().reshape(2, 3, 6, 6)
    got = trtnet.reference.run(net.definition, {"x": x.numpy()})["y"]
    np.testing.assert_allclose(got, inner(x).detach(), rtol=1e-5, atol=1e-5)


def test_lazy_modules_without_a_shape(raises: Any) -> None:
    with raises(UnsupportedError, "1.weight has no shape yet", "call the module once"):
        trtnet.from_torch(torch.nn.Sequential(torch.nn.ReLU(), torch.nn.LazyLinear(4)))

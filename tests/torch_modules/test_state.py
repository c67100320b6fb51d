"""`from_torch` of modules that keep something between calls, and of modules that draw randomly."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.utils.prune

import trtnet
from trtnet.errors import NetworkError, UnsupportedError

F = torch.nn.functional


class Function(torch.nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: torch.Tensor) -> Any:
        return self.function(*inputs)


def define(module: torch.nn.Module, shape: Any = (2, 3)) -> tuple[trtnet.Network, Any]:
    net = trtnet.Network("rtx")
    return net, trtnet.from_torch(module)(net.input("x", shape))


RANDOM: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "rand": lambda x: x + torch.rand(x.shape),
    "randn": lambda x: x * torch.randn(2, 3),
    "randint": lambda x: x + torch.randint(0, 5, (3,)),
    "randperm": lambda x: x[torch.randperm(2)],
    "normal_": lambda x: x.clone().normal_(),
    "uniform_": lambda x: x * x.new_empty(x.shape).uniform_(),
    "exponential_": lambda x: x + torch.empty_like(x).exponential_(),
    "multinomial": lambda x: torch.multinomial(x.softmax(-1), 1),
    "gumbel_softmax": F.gumbel_softmax,
    "dropout": lambda x: F.dropout(x, 0.5, training=True),
    "dropout of a real tensor": lambda x: x * F.dropout(torch.ones(3), 0.5, training=True),
    "distribution": lambda x: torch.distributions.Normal(x, 1.0, False).rsample(),
}


@pytest.mark.parametrize("name", RANDOM)
def test_random_numbers_are_refused(name: str) -> None:
    with pytest.raises(UnsupportedError, match="random numbers") as caught:
        define(Function(RANDOM[name]))
    assert caught.value.line is not None
    assert __file__ in caught.value.line
    assert caught.value.fix


class Kept(torch.nn.Module):
    def __init__(self, step: Callable[[Any, torch.Tensor], Any]) -> None:
        super().__init__()
        self.register_buffer("buffer", torch.zeros(2, 3))
        self.plain = torch.zeros(2, 3)
        self.listed = [torch.zeros(3)]
        self.step = step

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.step(self, x)
        return x + self.buffer + self.plain + self.listed[0]


def _set(name: str, value: Callable[[Any, torch.Tensor], Any]) -> Callable[..., None]:
    return lambda module, x: setattr(module, name, value(module, x))


STATE = {
    "buffer in place": lambda module, x: module.buffer.mul_(0.9).add_(x),
    "buffer, real values": lambda module, x: module.buffer.add_(1),
    "view of a buffer": lambda module, x: module.buffer[0].add_(1),
    "buffer by index": lambda module, x: module.buffer.__setitem__(0, 1.0),
    "list": lambda module, x: module.listed[0].add_(1),
    "new buffer": _set("buffer", lambda module, x: module.buffer * 0.9 + x),
    "new buffer, real values": _set("buffer", lambda module, x: module.buffer + 1),
    "new tensor": _set("plain", lambda module, x: module.plain + x),
}


@pytest.mark.parametrize("name", STATE)
def test_state_is_refused_and_the_original_stays(name: str) -> None:
    module = Kept(STATE[name])
    with pytest.raises(NetworkError, match=r"keeps|changed|written") as caught:
        define(module)
    assert caught.value.line is not None
    assert __file__ in caught.value.line
    assert "return the value as an output" in str(caught.value.fix)
    assert not module.buffer.any()
    assert not module.plain.any()
    assert not module.listed[0].any()


class Cached(torch.nn.Module):
    """A table that is made for the length it is needed for, and what a hook saw."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = torch.nn.Linear(4, 4)
        self.seen: list[torch.Tensor] = []
        self.named = seen = {}  # type: ignore[var-annotated]
        self.table: torch.Tensor | None = None

        def hook(_: Any, __: Any, output: torch.Tensor) -> None:
            self.seen.append(output)
            seen["inner"] = output

        self.inner.register_forward_hook(hook)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        length = x.shape[1]
        if self.table is None or self.table.shape[0] != length:
            self.table = torch.arange(length, device=x.device).to(x.dtype)[:, None]
        self.seen.clear()
        self.inner(x)
        return self.seen[0] * self.named["inner"] + self.table


def test_attributes_do_not_outlive_a_definition() -> None:
    original = Cached().eval()
    module = trtnet.from_torch(original)
    for shape in ((2, 3, 4), ("N", "T", 4), (1, 6, 4), (2, 3, 4)):
        net = trtnet.Network("rtx")
        net.output("y", module(net.input("x", shape)))
        sizes = [size if isinstance(size, int) else 5 for size in shape]
        x = np.random.default_rng(1).standard_normal(sizes).astype(np.float32)
        with torch.no_grad():
            wanted = Cached.forward(original, torch.from_numpy(x)).numpy()
        got = trtnet.reference.run(net.definition, {"x": x})["y"]
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)
    assert "inner" in net.module_outputs
    assert all(type(x) is torch.Tensor for x in original.seen)


@pytest.mark.filterwarnings("ignore:.*deprecated.*")
def test_weights_that_hooks_compute_are_no_state() -> None:
    norms = (torch.nn.utils.weight_norm, torch.nn.utils.spectral_norm)
    layers = [norm(torch.nn.Linear(3, 3)) for norm in norms]
    pruned = torch.nn.utils.prune.random_unstructured(torch.nn.Linear(3, 3), "weight", 0.5)
    module = torch.nn.Sequential(*layers, pruned).eval()
    net, y = define(module)
    net.output("y", y)
    x = np.ones((2, 3), np.float32)
    with torch.no_grad():
        wanted = module(torch.from_numpy(x)).numpy()
    got = trtnet.reference.run(net.definition, {"x": x})["y"]
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


def test_threads_define_from_one_module() -> None:
    module = trtnet.from_torch(Cached().eval())
    nets: dict[int, trtnet.Network] = {}

    def work(length: int) -> None:
        net = trtnet.Network("rtx")
        net.output("y", module(net.input("x", (1, length, 4))))
        nets[length] = net

    threads = [threading.Thread(target=work, args=(length,)) for length in range(2, 8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {net.outputs["y"].shape for net in nets.values()} == {(1, n, 4) for n in range(2, 8)}


def test_an_attribute_that_cannot_be_copied_is_named() -> None:
    inner = torch.nn.Linear(2, 2)
    inner.lock = threading.Lock()  # type: ignore[assignment]
    with pytest.raises(UnsupportedError, match=r"0\.lock"):
        trtnet.from_torch(torch.nn.Sequential(inner))


def test_the_network_is_usable_after_an_error_of_the_module() -> None:
    def fails(x: torch.Tensor) -> torch.Tensor:
        x = x * 2 + 1
        raise ValueError("no")

    net = trtnet.Network("rtx")
    x = net.input("x", (2, 3))
    with pytest.raises((ValueError, UnsupportedError), match=r"no|export"):
        trtnet.from_torch(Function(fails))(x)
    assert net.definition.num_layers == 0
    net.output("y", x + 1)
    assert "ELEMENTWISE" in str(trtnet.graph.read(net.definition).layers[-1]).upper()

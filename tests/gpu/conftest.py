"""What can run here, and PyTorch models with weights to compare engines with."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pytest

import trtnet
from trtnet import backend, hardware


class Case(NamedTuple):
    """A model in PyTorch, and what it maps its input to there, in float32 on the CPU."""

    model: str
    weights: Mapping[str, np.ndarray]
    expected: Callable[[np.ndarray], np.ndarray]
    shape: tuple[int, int, int]

    def images(self, batch: int, seed: int = 5) -> np.ndarray:
        rng = np.random.default_rng(seed)
        return rng.uniform(size=(batch, *self.shape)).astype(np.float32)

    def network(self, name: str, precision: str, batch: int | str) -> trtnet.Network:
        """The network ``input`` to ``logits``, on the backend called `name`."""
        model = trtnet.zoo.get_model(self.model)
        model.load_state_dict(dict(self.weights))
        net = trtnet.Network(backend=name, precision=precision)
        net.output("logits", model(net.input("input", (batch, *self.shape))))
        return net


@pytest.fixture(params=backend.names(defining=True))
def engine_backend(request: pytest.FixtureRequest) -> str:
    """A backend whose engines this machine can build and run; otherwise skips and says why."""
    reason = _missing(request.param)
    if reason is not None:
        pytest.skip(reason)
    return request.param


@pytest.fixture(params=["lenet5", "resnet18"])
def case(request: pytest.FixtureRequest) -> Case:
    """LeNet-5 on 32 x 32 and ResNet-18 on 64 x 64 images."""
    return _case(request.param)


@functools.cache
def _missing(name: str) -> str | None:
    reason = hardware.missing_gpu()
    if reason is not None:
        return reason
    try:
        backend.load(name).builder()
    except trtnet.BackendError as error:
        return error.problem
    major, minor = hardware.gpus()[0].compute_capability
    targets = backend.description(name).gpu_targets
    if targets is not None and not targets.supports((major, minor)):
        return f"{name} has no engines for compute capability {major}.{minor}"
    return None


@functools.cache
def _case(name: str) -> Case:
    torch = pytest.importorskip("torch")
    torch.manual_seed(3)
    if name == "lenet5":
        from trtnet.zoo.torch_lenet import LeNet5

        model, shape = LeNet5(), (1, 32, 32)
    else:
        torchvision = pytest.importorskip("torchvision")
        model, shape = torchvision.models.resnet18(weights=None), (3, 64, 64)
        _settle(model, shape)
    model.eval()

    def expected(images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return model(torch.from_numpy(images)).numpy()

    weights = {key: value.numpy().copy() for key, value in model.state_dict().items()}
    return Case(name, weights, expected, shape)


def _settle(model: Any, shape: tuple[int, int, int]) -> None:
    """Lets the BatchNorms see data; with their initial statistics deep sums leave float16."""
    import torch

    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the mean over all batches
    model.train()
    with torch.no_grad():
        for _ in range(4):
            model(torch.rand(8, *shape))

"""Seeded arrays of the kinds that activations are, and what counts them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from trtnet.quantization.histogram import Histogram
from trtnet.quantization.observer import Observer

KINDS = (
    *("normal", "relu", "heavy_tails", "heavy_relu", "laplace", "skewed", "sparse"),
    *("uniform", "tiny", "constant"),
)
_COUNT = 50_001


@pytest.fixture(params=KINDS)
def values(request: pytest.FixtureRequest) -> np.ndarray:
    """float32 values of shape (50001,) of each kind."""
    random = np.random.default_rng(12)
    normal = random.standard_normal(_COUNT)
    made = {
        "normal": lambda: normal,
        "relu": lambda: np.maximum(normal, 0),
        "heavy_tails": lambda: random.standard_t(3, _COUNT),
        "heavy_relu": lambda: np.maximum(random.standard_t(3, _COUNT), 0),
        "laplace": lambda: 40 * random.laplace(size=_COUNT),
        "skewed": lambda: normal - 1.5,
        "sparse": lambda: np.where(random.random(_COUNT) < 0.05, normal, 0),
        "uniform": lambda: random.uniform(-1, 1, _COUNT),
        "tiny": lambda: 1e-30 * normal,
        "constant": lambda: np.full(_COUNT, 3.7),
    }
    return made[request.param]().astype(np.float32)


@pytest.fixture
def count() -> Callable[..., Histogram]:
    """The histogram of the values of arrays, taken one after the other."""

    def counted(*arrays: np.ndarray) -> Histogram:
        histogram = Histogram()
        observer = Observer(histogram)
        for array in arrays:
            observer(torch.from_numpy(array))
        return histogram

    return counted

"""Seeded random weights for a module that has no PyTorch counterpart."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from trtnet.module import Module, Parameter
from trtnet.weights import Weights
from trtnet.weights.random_init import check_seed

_NOISE = 0.1  # standard deviation of biases, and of scales around 1
_NORMS = ("batch_norm", "normalization")


def random_weights(
    module: Module, name: str, seed: int = 0, preprocessing: Mapping[str, Any] | None = None
) -> Weights:
    """A state_dict for `module`: equal for equal seeds. The module is left as it was.

    Matrices and kernels get He's initialisation, with which a ReLU network keeps the size of its
    signal; scales of norms are near 1, biases near 0, running means near 0 and running variances
    near 1. Values that the module already has are kept. Statistics are not settled on data, as
    :func:`trtnet.weights.random_state` does for PyTorch's models: the branches of a deep residual
    network add up.

    Args:
        name: of the model, for the metadata.
        seed: from 0 to 2**63 - 1.
        preprocessing: of images, for the metadata.

    Raises:
        UsageError: an impossible seed.
    """
    check_seed(seed)
    random = np.random.default_rng(seed)
    owners = dict(module.named_modules())
    state = {}
    for key, slot in [*module.named_parameters(), *module.named_buffers()]:
        path, _, name_in_owner = key.rpartition(".")
        if slot.has_values or not slot.optional:
            state[key] = _values(random, owners[path], name_in_owner, slot)
    metadata = {"architecture": name, "weights": "random", "seed": str(seed)}
    if preprocessing is not None:
        metadata["preprocessing"] = json.dumps(preprocessing)
    return Weights(state, metadata)


def _values(random: np.random.Generator, owner: Module, name: str, slot: Parameter) -> np.ndarray:
    values: np.ndarray = np.asarray(random.standard_normal(slot.shape, dtype=np.float32))
    if slot.has_values:
        return slot.require(name)
    if name == "running_var":
        values = 1 + _NOISE * np.abs(values)
    elif name == "weight" and owner.computes in _NORMS:
        values = 1 + _NOISE * values
    elif len(slot.shape) < 2:
        values = _NOISE * values
    else:
        values = values * np.float32(math.sqrt(2 / _fan_in(owner, slot)))
    return np.asarray(values)


def _fan_in(owner: Module, slot: Parameter) -> float:
    """How many values an output is the sum of."""
    if owner.computes != "deconvolution":  # (outputs, inputs per group, *kernel)
        return math.prod(slot.shape[1:])
    inputs, _, *kernel = slot.shape  # (inputs, outputs per group, *kernel)
    stride = getattr(owner, "stride", 1)
    step = math.prod(stride) if isinstance(stride, tuple) else stride ** len(kernel)
    return max(1.0, inputs * math.prod(kernel) / getattr(owner, "groups", 1) / step)

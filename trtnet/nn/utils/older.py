"""``torch.nn.utils.weight_norm`` and ``spectral_norm``: state_dicts with ``weight_g``, ``weight_v``
or ``weight_orig``, ``weight_u``, ``weight_v``."""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from trtnet.module import Buffer, Module, Parameter
from trtnet.nn.utils.computed import (
    ComputedParameter,
    norm_except,
    spectral_norm_of,
    weight_norm_of,
)

AnyModule = TypeVar("AnyModule", bound=Module)


def weight_norm(module: AnyModule, name: str = "weight", dim: int | None = 0) -> AnyModule:
    """`module`, its parameter `name` computed from a length ``name_g`` and a direction ``name_v``;
    as ``torch.nn.utils.weight_norm``.

    Args:
        dim: the axis along which lengths differ; ``None``: there is one length.
    """
    weight = module._parameters.pop(name)
    assert weight is not None
    length, direction = split_length(weight, dim)
    module.register_parameter(f"{name}_g", length)
    module.register_parameter(f"{name}_v", direction)
    sources = {f"{name}_g": length, f"{name}_v": direction}
    put(module, name, ComputedParameter(weight.shape, sources, weight_norm_of(dim)))
    return module


def split_length(weight: Parameter, dim: int | None) -> tuple[Parameter, Parameter]:
    """The length and the direction of `weight`; with values if it has any."""
    values = weight.memory
    if values is not None and weight.has_values:
        norm = norm_except(values, dim).astype(values.dtype)
        return Parameter(norm), Parameter(values)
    axis = None if dim in (None, -1) else dim % weight.ndim  # type: ignore[operator]
    sizes = [size if index == axis else 1 for index, size in enumerate(weight.shape)]
    return Parameter.empty(() if axis is None else sizes), Parameter.empty(weight.shape)


def spectral_norm(
    module: AnyModule,
    name: str = "weight",
    n_power_iterations: int = 1,
    eps: float = 1e-12,
    dim: int | None = None,
) -> AnyModule:
    """`module`, its parameter `name` divided by its largest singular value, which is computed from
    the vectors of the state_dict; as ``torch.nn.utils.spectral_norm`` in ``eval()``.

    Args:
        n_power_iterations, eps: matter in training alone.
        dim: the axis of the outputs; 1 for transposed convolutions, otherwise 0.
    """
    axis = output_axis(module, dim)
    weight = module._parameters.pop(name)
    assert weight is not None
    rows, columns = weight.shape[axis], weight.numel() // weight.shape[axis]
    module.register_parameter(f"{name}_orig", weight)
    weight.name = f"{name}_orig"
    u, v = Buffer.empty((rows,)), Buffer.empty((columns,))
    module.register_buffer(f"{name}_u", u)
    module.register_buffer(f"{name}_v", v)
    sources = {f"{name}_orig": weight, f"{name}_u": u, f"{name}_v": v}
    put(module, name, ComputedParameter(weight.shape, sources, spectral_norm_of(axis)))
    return module


def output_axis(module: Module, dim: int | None) -> int:
    """`dim`, or the axis of a weight that counts the outputs of `module`."""
    return (1 if module.computes == "deconvolution" else 0) if dim is None else dim


def put(module: Module, name: str, weight: ComputedParameter) -> None:
    """Makes `weight` an attribute that does not belong to the state_dict."""
    weight.name = name
    object.__setattr__(module, name, weight)


def remove_weight_norm(module: AnyModule, name: str = "weight") -> AnyModule:
    """`module` with a plain parameter `name` again, of the value that it has."""
    return _remove(module, name, ("g", "v"))


def remove_spectral_norm(module: AnyModule, name: str = "weight") -> AnyModule:
    """`module` with a plain parameter `name` again, of the value that it has."""
    return _remove(module, name, ("orig", "u", "v"))


def _remove(module: AnyModule, name: str, parts: tuple[str, ...]) -> AnyModule:
    weight = module.__dict__.get(name)
    if not isinstance(weight, ComputedParameter) or not hasattr(module, f"{name}_{parts[0]}"):
        raise ValueError(f"{type(module).__name__}.{name} has no norm to remove")
    values = np.array(weight.require(name)) if weight.has_values else None
    for part in parts:
        delattr(module, f"{name}_{part}")
    delattr(module, name)
    plain = Parameter.empty(weight.shape) if values is None else Parameter(values)
    module.register_parameter(name, plain)
    return module

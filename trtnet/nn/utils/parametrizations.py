"""``torch.nn.utils.parametrizations``: state_dicts with ``parametrizations.weight.original0``."""

from __future__ import annotations

from typing import Any, TypeVar

from trtnet.module import Buffer, Module, ModuleDict, ModuleList, Parameter
from trtnet.nn.utils.computed import ComputedParameter, spectral_norm_of, weight_norm_of
from trtnet.nn.utils.older import output_axis, put, split_length

AnyModule = TypeVar("AnyModule", bound=Module)


class ParametrizationList(ModuleList):
    """Holds what a weight is computed from: ``original``, or ``original0`` and ``original1``."""


class _SpectralNorm(Module):
    """The two vectors of the largest singular value."""

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.register_buffer("_u", Buffer.empty((rows,)))
        self.register_buffer("_v", Buffer.empty((columns,)))


def weight_norm(module: AnyModule, name: str = "weight", dim: int | None = 0) -> AnyModule:
    """`module`, its parameter `name` computed from a length and a direction; as
    ``torch.nn.utils.parametrizations.weight_norm``. State_dicts of the older function
    (``name_g``, ``name_v``) load too.

    Args:
        dim: the axis along which lengths differ; ``None``: there is one length.
    """
    weight = _take(module, name)
    length, direction = split_length(weight, dim)
    held = ParametrizationList([Module()])
    held.register_parameter("original0", length)
    held.register_parameter("original1", direction)
    sources = {f"parametrizations.{name}.{key}": p for key, p in held.named_parameters()}
    _register(module, name, held)
    put(module, name, ComputedParameter(weight.shape, sources, weight_norm_of(dim)))

    def rename(state: dict[str, Any], prefix: str, *rest: Any) -> None:
        for old, new in (("g", "original0"), ("v", "original1")):
            if f"{prefix}{name}_{old}" in state:
                key = f"{prefix}parametrizations.{name}.{new}"
                state[key] = state.pop(f"{prefix}{name}_{old}")

    module._register_load_state_dict_pre_hook(rename)
    return module


def spectral_norm(
    module: AnyModule,
    name: str = "weight",
    n_power_iterations: int = 1,
    eps: float = 1e-12,
    dim: int | None = None,
) -> AnyModule:
    """`module`, its parameter `name` divided by its largest singular value, which is computed from
    the vectors of the state_dict; as ``torch.nn.utils.parametrizations.spectral_norm`` in
    ``eval()``.

    Args:
        n_power_iterations, eps: matter in training alone.
        dim: the axis of the outputs; 1 for transposed convolutions, otherwise 0.

    Raises:
        ValueError: the weight is a vector, which has no singular values.
    """
    axis = output_axis(module, dim)
    weight = _take(module, name)
    if weight.ndim < 2:
        raise ValueError("spectral_norm takes a weight of at least two axes")
    vectors = _SpectralNorm(weight.shape[axis], weight.numel() // weight.shape[axis])
    held = ParametrizationList([vectors])
    held.register_parameter("original", weight)
    way = f"parametrizations.{name}"
    sources = {
        f"{way}.original": weight,
        f"{way}.0._u": vectors.get_buffer("_u"),
        f"{way}.0._v": vectors.get_buffer("_v"),
    }
    _register(module, name, held)
    put(module, name, ComputedParameter(weight.shape, sources, spectral_norm_of(axis)))
    return module


def _take(module: Module, name: str) -> Parameter:
    weight = module._parameters.pop(name, None)
    if weight is None:
        raise ValueError(f"{type(module).__name__} has no parameter {name!r}")
    return weight


def _register(module: Module, name: str, held: ParametrizationList) -> None:
    if "parametrizations" not in module._modules:
        module.add_module("parametrizations", ModuleDict())
    module.get_submodule("parametrizations").add_module(name, held)

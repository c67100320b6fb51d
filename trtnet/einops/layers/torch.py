"""``einops.layers.torch``: layers of einops as trtnet's modules."""

from __future__ import annotations

from typing import Any

from einops.layers import RearrangeMixin, ReduceMixin
from einops.layers._einmix import _EinmixMixin

from trtnet import ops
from trtnet.einops.backend import operand
from trtnet.module import Module, Parameter

__all__ = ["EinMix", "Rearrange", "Reduce"]


class Rearrange(RearrangeMixin, Module):  # type: ignore[misc]
    """``einops.rearrange`` with a fixed pattern."""

    def forward(self, input: Any) -> Any:
        """`input` rearranged."""
        return self._apply_recipe(operand(input, self.axes_lengths))


class Reduce(ReduceMixin, Module):  # type: ignore[misc]
    """``einops.reduce`` with a fixed pattern."""

    def forward(self, input: Any) -> Any:
        """`input` reduced."""
        return self._apply_recipe(operand(input, self.axes_lengths))


class EinMix(_EinmixMixin, Module):  # type: ignore[misc]
    """``einops.layers.torch.EinMix``: an einsum with a weight, and a bias."""

    def _create_parameters(
        self, weight_shape: Any, weight_bound: float, bias_shape: Any, bias_bound: float
    ) -> None:
        self.weight = Parameter.empty(weight_shape)
        self.register_parameter("bias", Parameter.empty(bias_shape) if bias_shape else None)

    def _create_rearrange_layers(
        self, pre_pattern: Any, pre_lengths: Any, post_pattern: Any, post_lengths: Any
    ) -> None:
        self.pre_rearrange = Rearrange(pre_pattern, **pre_lengths) if pre_pattern else None
        self.post_rearrange = Rearrange(post_pattern, **post_lengths) if post_pattern else None

    def forward(self, input: Any) -> Any:
        """`input` mixed by the weight."""
        if self.pre_rearrange is not None:
            input = self.pre_rearrange(input)
        result = ops.einsum(self.einsum_pattern, input, self.weight)
        if self.bias is not None:
            result = result + self.bias
        return self.post_rearrange(result) if self.post_rearrange is not None else result

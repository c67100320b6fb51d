"""Q/DQ pairs: where TensorRT's fusion needs them, and their scales.

- On every input of a quantized convolution, deconvolution or matrix product: one pair per tensor,
  however many layers read it. None between a product and the BatchNorm, activation or addition
  that follows it: these run as one kernel.
- On the shortcut of an addition whose other operand is a quantized convolution.
- On the input of a global average pooling that follows quantized layers.

A concatenation needs none: the pair on its output gives all its inputs one scale. Activations have
one scale per tensor, weights one per output channel and are stored quantized. All scales are
float32 and symmetric: the largest magnitude becomes the largest code of the precision.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeGuard

import numpy as np

from trtnet.dtypes import DType, float32
from trtnet.finite import require_representable
from trtnet.names import parameter_name
from trtnet.network.casts import Casts
from trtnet.network.naming import TensorNames
from trtnet.precision.policy import Policy
from trtnet.precision.table import QUANTIZED, STORED
from trtnet.recipes.ledger import Ledger
from trtnet.tensor import Tensor, same_size
from trtnet.tensor.emitter import Emitter

# Layers that only move the values of a product, and pointwise layers that fuse with a product.
_MOVES = frozenset(
    {
        *("add_concatenation", "add_gather", "add_padding_nd", "add_shuffle", "add_slice"),
        *("add_squeeze", "add_unsqueeze", "add_cast", "add_identity"),
    }
)
_POINTWISE = frozenset(
    {"add_activation", "add_elementwise", "add_parametric_relu", "add_select", "add_unary"}
)


class Ranges(Protocol):
    """Ranges of activations, such as a :class:`trtnet.quantization.CalibrationTable`."""

    def amax(self, name: str) -> float:
        """The magnitude in the tensor `name` that the largest code stands for."""

    def require_weights(self, sha256: str) -> None:
        """Refuses other weights than those it was made with."""


class Quantizer:
    """The Q/DQ pairs of one network.

    Args:
        network: the network.
        casts, names: its casts and tensor names.
        policy: its policy.
        ranges: of the activations. Without them nothing is quantized: under a policy with INT8
            or FP8 only the names of the tensors that need a range are collected.
        ledger: notes which weights and ranges the scales come from.

    Attributes:
        is_active: whether the policy quantizes activations.
        is_observing: whether it does, and their ranges are not known.
        observed: names of the tensors that need a range, in order.
        formats: the quantized precisions that occur in the network.
    """

    def __init__(
        self,
        network: Emitter[Tensor],
        casts: Casts,
        names: TensorNames,
        policy: Policy,
        ranges: Ranges | None,
        ledger: Ledger,
    ) -> None:
        self._network, self._casts, self._names, self._ranges = network, casts, names, ranges
        self._ledger = ledger
        self.is_active = policy.uses(*QUANTIZED)
        self.is_observing = needs_ranges(policy, ranges)
        self.observed: dict[str, None] = {}
        self._scales: dict[tuple[str, str], np.ndarray] = {}  # of activations
        self.formats: set[str] = set()
        self._quantized: dict[tuple[Any, str], Tensor | None] = {}
        self._pairs: dict[tuple[Any, str, DType], Tensor] = {}
        self._constants: set[Any] = set()
        self._products: dict[Any, str] = {}  # results, also after pointwise layers
        self._branches: dict[Any, str] = {}  # results of quantized convolutions

    # Called by operators

    def format(self, kind: str, groups: int = 1) -> str | None:
        """The precision a `kind` of layer in the module being emitted is quantized to, if any."""
        precision = self._casts.decide(kind, groups).precision
        return precision if precision in STORED else None

    def quantizes_activations(self, format: str | None) -> TypeGuard[str]:
        """Whether layers of this `format` have quantized inputs, not only weights."""
        return format in QUANTIZED

    def activation(self, tensor: Tensor, format: str | None, dtype: DType | None = None) -> Tensor:
        """`tensor` as input of a layer quantized to `format`: the output of its Q/DQ pair, in the
        type `dtype` (by default what the module computes in).

        Raises:
            UsageError: the calibration has no range for it.
        """
        network = self._network
        dtype = dtype or network.compute_dtype
        if not self.quantizes_activations(format):
            return network.cast(tensor, dtype).emitted()
        source = self._casts.source(tensor).emitted()
        key = (source.itensor, format)
        if key not in self._quantized:
            self._names.take(source.name)  # ranges are stored by name: it must not change
            self.observed[source.name] = None
            self._quantized[key] = None if self.is_observing else self._quantize(source, format)
        stored = self._quantized[key]
        if stored is None:
            return network.cast(tensor, dtype).emitted()
        pair = (source.itensor, format, dtype)
        if pair not in self._pairs:
            scale = network.constant(self._scale(source.name, format))
            self._pairs[pair] = self._dequantize("dequantize", stored, scale, dtype)
        return self._pairs[pair]

    def kernel(
        self,
        weight: np.ndarray,
        format: str | None,
        axis: int,
        name: str,
        dtype: DType | None = None,
    ) -> tuple[np.ndarray | None, dict[int, Tensor]]:
        """What the layer gets as its kernel, and as further inputs.

        Quantized, `weight`, the parameter `name`, is a constant in `format`, with one scale per
        index of `axis`, whose dequantized values are input 1; the layer's own kernel is empty.

        Raises:
            WeightsError: values that are not finite.
        """
        if format is None or (self.is_observing and format in QUANTIZED):
            return weight, {}
        network = self._network
        stored, limit = STORED[format]
        key = parameter_name(network.path, name)
        require_representable(weight, float32, key, finite=True)
        self.formats.add(format)
        scales = self._ledger.derive("channel_scales", weight, axis=axis, limit=limit)
        integer = stored.value if stored.element.kind == "integer" else None
        codes = self._ledger.derive("codes", weight, scales, axis=axis, integer=integer)
        constant = network.emit(
            "weight", "add_constant", weight.shape, network.weights(codes, stored)
        )
        dtype, scale = dtype or network.compute_dtype, network.constant(scales)
        return None, {1: self._dequantize("dequantize_weight", constant, scale, dtype, axis=axis)}

    def product(self, tensor: Tensor, format: str | None, convolution: bool = False) -> Tensor:
        """Notes that `tensor` is the result of a product quantized to `format`; returns it."""
        if format in QUANTIZED:
            self._products[tensor.itensor] = format
            if convolution:
                self._branches[tensor.itensor] = format
        return tensor

    def shortcut(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """The operands of an addition, the shortcut of a residual block quantized.

        Of two quantized convolutions, the one that has a pair already counts as the shortcut, or
        else the second.
        """
        if not self.is_active or not _same_shape(a, b):
            return a, b
        operands = [a, b]
        formats = [self._branches.get(operand.itensor) for operand in operands]
        if formats == [None, None] or any(x.itensor in self._constants for x in operands):
            return a, b
        if None in formats:
            index = formats.index(None)
        else:
            index = 0 if self._has_pair(a) and not self._has_pair(b) else 1
        branch = operands[1 - index]
        operands[index] = self.activation(operands[index], formats[1 - index], branch.dtype)
        return operands[0], operands[1]

    def pooled(self, x: Tensor, axes: Sequence[int]) -> Tensor:
        """The input of an average over `axes`, quantized where these are all positions of a
        quantized layer's output, unless the policy names a floating-point type for it."""
        if not self.is_active or list(axes) != list(range(2, x.ndim)) or x.ndim < 3:
            return x
        decision, format = self._casts.decide("pooling"), self._products.get(x.itensor)
        if format is None or (decision.named and decision.precision not in QUANTIZED):
            return x
        return self.activation(x, format, x.dtype)

    # Called by the network after each layer

    def follow(self, method: str, taken: Sequence[Tensor], made: Sequence[Tensor]) -> None:
        """Notes that the layer that `method` added made `made` from `taken`."""
        if not self.is_active or not made:
            return
        itensors = [tensor.itensor for tensor in taken]
        if method == "add_constant":
            self._constants.add(made[0].itensor)
        elif method in _MOVES or method == "add_scale_nd":
            if itensors and itensors[0] in self._constants:
                self._constants.update(tensor.itensor for tensor in made)
            self._carry(itensors, made, self._products)
            self._carry(itensors[:1], made, self._branches)
        elif method in _POINTWISE:
            operands = [itensor for itensor in itensors if itensor not in self._constants]
            self._carry(operands, made, self._products)
            if method == "add_elementwise" and len(operands) == 1:  # a bias
                self._carry(operands, made, self._branches)

    def _carry(
        self, itensors: Sequence[Any], made: Sequence[Tensor], formats: dict[Any, str]
    ) -> None:
        found = next((formats[i] for i in itensors if i in formats), None)
        if found:
            formats.update((tensor.itensor, found) for tensor in made)

    # Layers

    def _quantize(self, tensor: Tensor, format: str) -> Tensor:
        network = self._network
        self.formats.add(format)
        scale = network.constant(self._scale(tensor.name, format))
        dtype = STORED[format][0].of(network.trt)
        return network.emit("quantize", "add_quantize", tensor, scale, dtype, dims=tensor.shape)

    def _dequantize(
        self, op: str, stored: Tensor, scale: Tensor, dtype: DType, **attributes: Any
    ) -> Tensor:
        attributes["dims"] = stored.shape
        output_type = dtype.of(self._network.trt)
        return self._network.emit(op, "add_dequantize", stored, scale, output_type, **attributes)

    def _scale(self, name: str, format: str) -> np.ndarray:
        assert self._ranges is not None
        if (name, format) not in self._scales:  # one for a pair: their constants are shared
            amax = self._ledger.range(name, np.array(self._ranges.amax(name), np.float32))
            scale = self._ledger.derive("range_scale", amax, limit=STORED[format][1])
            self._scales[name, format] = scale
        return self._scales[name, format]

    def _has_pair(self, tensor: Tensor) -> bool:
        source = self._casts.source(tensor)
        return any(key[0] is source.itensor for key in self._quantized)


def needs_ranges(policy: Policy, ranges: Ranges | None) -> bool:
    """Whether `policy` quantizes activations whose ranges are not known yet."""
    return ranges is None and policy.uses(*QUANTIZED)


def _same_shape(a: Tensor, b: Tensor) -> bool:
    """Whether nothing is broadcast, as far as the sizes are known."""
    return a.ndim == b.ndim and all(
        same_size(x, y)
        or not (same_size(x, 1) or same_size(y, 1) or (isinstance(x, int) and isinstance(y, int)))
        for x, y in zip(a.shape, b.shape, strict=True)
    )

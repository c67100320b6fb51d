"""The casts of one network: one per tensor and type, and none that undoes another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from trtnet.dtypes import DType, bfloat16, dtype_of, float16, float32
from trtnet.precision.policy import Decision, Policy
from trtnet.precision.table import FLOATS
from trtnet.tensor import Tensor, cast_on_use
from trtnet.tensor.emitter import Emitter

_HALF = (float16, bfloat16)
_PASSES_ON = frozenset(
    {
        *("add_activation", "add_elementwise", "add_parametric_relu", "add_reduce", "add_select"),
        *("add_concatenation", "add_gather", "add_gather_v2", "add_padding_nd", "add_scale_nd"),
        *("add_scatter", "add_shuffle", "add_slice", "add_softmax", "add_squeeze", "add_unary"),
        "add_unsqueeze",
    }
)


class Casts:
    """The type that each module computes in, and the casts that bring tensors to it.

    Casting the result of a policy's cast back to the original type gives the original tensor. A
    cast that a model's own code asks for is kept, and what is computed from it keeps its type.

    Args:
        network: the network.
        policy: its policy.
        observing: everything computes in float32, whatever the policy says.
    """

    def __init__(self, network: Emitter[Tensor], policy: Policy, observing: bool) -> None:
        self._network, self._policy, self._observing = network, policy, observing
        self._made: dict[tuple[Any, DType, bool], Tensor] = {}
        self._sources: dict[Any, Tensor] = {}  # what the policy's casts are made from
        self._own: set[Any] = set()  # tensors of a type that the model's code chose
        self._decisions: dict[tuple[str, str, int], Decision] = {}

    @property
    def coarsest(self) -> str:
        """The floating-point precision with the fewest digits that may occur."""
        return "fp32" if self._observing else self._policy.coarsest

    def decide(self, kind: str, groups: int = 1) -> Decision:
        """What the policy says about a `kind` of layer in the module being emitted."""
        key = (self._network.path, kind, groups)
        if key not in self._decisions:
            self._decisions[key] = self._policy.decide(*key)
        return self._decisions[key]

    def dtype(self, kind: str = "") -> DType:
        """The type a `kind` of layer computes in, in the module being emitted."""
        if self._observing:
            return float32
        precision = self.decide(kind).precision
        return dtype_of(precision if precision in FLOATS else self._policy.base)

    def source(self, tensor: Tensor) -> Tensor:
        """What `tensor` was before the policy's casts."""
        tensor = tensor.source
        return self._sources.get(tensor.itensor, tensor) if tensor.is_emitted else tensor

    def to(self, tensor: Tensor, dtype: DType) -> Tensor:
        """`tensor` as `dtype`, because the policy wants it."""
        if tensor.dtype is dtype:
            return tensor
        source = self.source(tensor)
        if source.dtype is dtype:
            return source
        cast = self._cast(source, dtype, own=False)
        self._sources[cast.itensor] = source.as_it_is()
        return cast

    def convert(self, tensor: Tensor, dtype: DType) -> Tensor:
        """`tensor` as `dtype`, because the model's code wants it."""
        if tensor.dtype is dtype:
            return tensor
        cast = self._cast(tensor, dtype, own=True)
        self._own.add(cast.itensor)
        return cast

    def _cast(self, tensor: Tensor, dtype: DType, own: bool) -> Tensor:
        key = (tensor.itensor, dtype, own)
        if key not in self._made:
            trt_dtype = dtype.of(self._network.trt)
            self._made[key] = self._network.emit(
                "cast", "add_cast", tensor, trt_dtype, dims=tensor.shape
            )
        return self._made[key]

    def back(self, tensor: Tensor, dtype: DType | None = None) -> Tensor:
        """`tensor` as `dtype`, by default what the module being emitted computes in. The Cast
        layer is added on first use in that type."""
        dtype = dtype or self.dtype()
        return tensor if tensor.dtype is dtype else cast_on_use(tensor, dtype)

    def stored(self, tensor: Tensor, like: Tensor) -> Tensor:
        """`tensor` in the type of `like`, whose memory an in-place operation writes it to. A type
        that the model's code chose is kept; other floating types are the policy's choice."""
        if tensor.dtype is like.dtype:
            return tensor
        is_float = tensor.dtype.is_floating_point and like.dtype.is_floating_point
        if is_float and like.source.itensor not in self._own:
            return self.back(tensor, like.dtype)
        return self.convert(tensor, like.dtype)

    def around(self, kind: str, x: Tensor, compute: Callable[[Tensor], Tensor]) -> Tensor:
        """``compute(x)`` in the type of `kind` where `x` has half precision. The result is cast
        back to the type of `x` on first use in that type."""
        dtype = self.dtype(kind)
        if x.dtype not in _HALF or dtype is x.dtype or x.itensor in self._own:
            return compute(x)
        return self.back(compute(self.to(x, dtype)), x.dtype)

    def meet(self, tensors: Sequence[Tensor], promoted: DType) -> DType:
        """The type in which `tensors` meet in one layer: `promoted`, or the module's type where
        they have different floating types and the policy chose these."""
        dtypes = {tensor.dtype for tensor in tensors}
        mixed = len(dtypes) > 1 and all(dtype.is_floating_point for dtype in dtypes)
        if not mixed or any(tensor.source.itensor in self._own for tensor in tensors):
            return promoted
        return self.dtype()

    def follow(self, method: str, taken: Sequence[Tensor], made: Sequence[Tensor]) -> None:
        """Notes that the layer that `method` added made `made` from `taken`."""
        passes_on = self._own and method in _PASSES_ON
        if passes_on and any(tensor.itensor in self._own for tensor in taken):
            self._own.update(tensor.itensor for tensor in made)

"""The table of precisions: what each one computes in, needs, and is held to."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from trtnet.dtypes import DType, bfloat16, float8, float16, float32, int8

# What a module computes, as far as its precision depends on it. Everything else (activations,
# additions, shapes) takes the type of its input.
KINDS = (
    *("convolution", "deconvolution", "linear", "attention", "pooling"),
    *("normalization", "batch_norm", "softmax", "reduction"),
)
_PRODUCTS = ("convolution", "deconvolution", "linear")


class Limits(NamedTuple):
    """How far values may be from PyTorch's; see :class:`trtnet.verification.Tolerance`.

    Attributes:
        rel_l2: the largest relative L2 distance.
        cosine: the smallest cosine.
        agreement: the smallest share of equal integers.
        positions: the smallest share of positions of largest values that are as good.
        matched: the smallest share of boxes of a detector that are matched.
        score: the largest difference of the scores of two matched boxes.
    """

    rel_l2: float = math.inf
    cosine: float = -1.0
    agreement: float = 0.0
    positions: float = 0.0
    matched: float = 0.0
    score: float = math.inf


@dataclass(frozen=True)
class Precision:
    """One precision.

    Attributes:
        name: as in ``precision="fp16"``.
        help: what it means, in a few words.
        limits: what :func:`trtnet.verify` holds the outputs of a network to.
        dtype: the type that modules compute in. ``None`` for a quantized precision, whose modules
            give the policy's base type.
        module_limits: what one module is held to on the network's own input; ``None`` where there
            is no such limit.
        stored: the type that quantized values are stored in, ``None`` where nothing is quantized.
        largest: the magnitude of the largest code; scales are symmetric.
        calibrated: whether activations are quantized too, which takes a calibration.
        kinds: the :data:`KINDS` of modules that are quantized.
        on_request: kinds that are quantized only where a policy names them, and why.
        no_groups: why convolutions with groups are not quantized; ``""`` where they are.
        flag: whether the command line has a flag of this name, as trtexec has.
        capability: the least compute capability of GPUs that have it; ``None`` for every GPU that
            TensorRT supports.
        gpus: those GPUs, in words.
        rate: see :attr:`product_rate`; ``""`` for its own name.
    """

    name: str
    help: str
    limits: Limits
    dtype: DType | None = None
    module_limits: Limits | None = None
    stored: DType | None = None
    largest: float = 0.0
    calibrated: bool = False
    kinds: tuple[str, ...] = ()
    on_request: Mapping[str, str] = field(default_factory=dict)
    no_groups: str = ""
    flag: bool = False
    capability: str | None = None
    gpus: str = "every GPU"
    rate: str = ""

    @property
    def is_half(self) -> bool:
        """Whether modules compute in a floating-point type of 16 bits."""
        return self.dtype is not None and self.dtype.element.bits == 16

    @property
    def product_rate(self) -> str:
        """The name under which tables of GPUs give the speed of its products."""
        return self.rate or self.name

    def unsuited(self, kind: str, groups: int) -> str:
        """Why modules of `kind` are not quantized; ``""`` where they are, or nothing is.

        Args:
            kind: one of :data:`KINDS`, or ``""``.
            groups: of a convolution.
        """
        if self.dtype is not None or not kind:
            return ""
        if kind in self.on_request:
            return f"not quantized: {self.on_request[kind]}"
        if kind not in self.kinds:
            return f"not quantized: {kind} has no {self.name.upper()} form"
        if groups > 1 and self.no_groups:
            return f"not quantized: {self.no_groups.format(groups=groups)}"
        return ""

    def runs_on(self, capability: str) -> bool:
        """Whether GPUs of the compute `capability`, such as ``"8.6"``, have it."""
        return self.capability is None or _numbers(capability) >= _numbers(self.capability)


# Limits of outputs. Integers flip where what they are rounded from is closer than the rounding. A
# position of a largest value (an argmax, a map of classes) may flip where two candidates are as
# close as values may be off, and is then as good as PyTorch's; nearly all have to be, in float32
# all. A quantized network's limit is a signal-to-noise ratio in dB: how far a tensor inside may be
# off depends on what reads it, so modules have no limit. FP8 has 3 bits of fraction, which costs
# 32 dB per tensor whatever its range; both operands of every product, and the depth of the
# network, add to that.
#
# A box near the threshold of the scores, or one of two of nearly equal scores that suppress each
# other, may come or go by rounding. So few boxes have to be matched in half precision, where each
# module, and the choice of boxes from the network's own scores, is held to its own limits.
_FLOAT32 = Limits(rel_l2=1e-4, agreement=0.999, positions=1.0, matched=0.98, score=1e-3)
_SQNR_25_DB = Limits(10 ** (-25 / 20), agreement=0.7, positions=0.9, matched=0.5, score=0.2)
_SQNR_15_DB = Limits(10 ** (-15 / 20), agreement=0.7, positions=0.9, matched=0.3, score=0.3)

# Limits of one module on the network's own input. Its weights and its output are rounded once,
# each by at most a unit roundoff (half precision accumulates in float32); where a BatchNorm
# subtracts the mean, the rest carries the rounding of the whole. Over the zoo's modules the worst
# is 1.6 units in FP16 and BF16 and, as convolutions sum in another order, 10 in FP32.
_ROUNDOFFS = 8


def _module_limits(rel_l2: float) -> Limits:
    return Limits(rel_l2=rel_l2, agreement=0.98, positions=0.999, matched=0.99, score=1e-3)


TABLE: Mapping[str, Precision] = {
    precision.name: precision
    for precision in (
        Precision(
            name="fp32",
            help="float32, without TensorFloat-32 arithmetic",
            dtype=float32,
            limits=_FLOAT32,
            module_limits=_module_limits(1e-5),
        ),
        Precision(
            name="tf32",
            help="float32, with TensorFloat-32 arithmetic where the GPU has it",
            dtype=float32,
            limits=_FLOAT32,
            module_limits=_module_limits(1e-5),
        ),
        Precision(
            name="fp16",
            help="float16; norms and sums in float32",
            dtype=float16,
            limits=Limits(cosine=0.999, agreement=0.9, positions=0.999, matched=0.8, score=0.05),
            module_limits=_module_limits(_ROUNDOFFS * 2.0**-11),
            flag=True,
        ),
        Precision(
            name="bf16",
            help="bfloat16; norms and sums in float32",
            dtype=bfloat16,
            limits=Limits(cosine=0.99, agreement=0.7, positions=0.999, matched=0.5, score=0.2),
            module_limits=_module_limits(_ROUNDOFFS * 2.0**-8),
            flag=True,
            capability="8.0",
            gpus="Ampere and later",
        ),
        Precision(
            name="int8-weights",
            help="weights stored in INT8, arithmetic in half precision; needs no calibration",
            limits=_SQNR_25_DB,
            stored=int8,
            largest=127,
            kinds=_PRODUCTS,
        ),
        Precision(
            name="int8",
            help="products in INT8, the rest in half precision; needs calibration data",
            limits=_SQNR_25_DB,
            stored=int8,
            largest=127,
            calibrated=True,
            kinds=(*_PRODUCTS, "pooling"),
            on_request={"attention": "in INT8 the small probabilities of a softmax vanish"},
            flag=True,
        ),
        Precision(
            name="fp8",
            help="products in FP8 (E4M3), the rest in half precision; needs calibration data",
            limits=_SQNR_15_DB,
            stored=float8,
            largest=448,
            calibrated=True,
            kinds=(*_PRODUCTS, "pooling", "attention"),
            no_groups="FP8 has no convolution with groups ({groups}); INT8 has",
            flag=True,
            capability="8.9",
            gpus="Ada, Hopper, Blackwell and later",
        ),
    )
}
"""Every precision by name, from the most exact to the coarsest."""

PRECISIONS = tuple(TABLE)
FLOATS = tuple(name for name, p in TABLE.items() if p.dtype is not None)
HALF = tuple(name for name, p in TABLE.items() if p.is_half)
TENSOR_TYPES = tuple(name for name in FLOATS if name != "tf32")
"""Floating-point precisions that differ in the type of their tensors; TF32's are float32."""
STORED = {name: (p.stored, p.largest) for name, p in TABLE.items() if p.stored is not None}
"""Quantized precisions: the type of their values, and the magnitude of the largest code."""
QUANTIZED = tuple(name for name, p in TABLE.items() if p.calibrated)
"""Precisions that quantize activations too, and need a calibration."""
FLAGS = tuple(name for name, p in TABLE.items() if p.flag)

PRODUCT_RATES: Mapping[str, str] = {
    dtype.value: p.product_rate
    for p in TABLE.values()
    for dtype in (p.dtype, p.stored if p.calibrated else None)
    if dtype is not None
}
"""Element type of the operands of a product, such as ``"float16"``, to its
:attr:`Precision.product_rate`. Of float32 it is TF32's, which TensorRT uses unless told not to."""


def coarsest(names: Iterable[str]) -> str:
    """The least exact of the precisions `names`, of which there is at least one."""
    return max(names, key=PRECISIONS.index)


def _numbers(capability: str) -> tuple[int, ...]:
    return tuple(int(part) for part in capability.split("."))

"""The cases of a certificate: a fixed set of networks that together use every layer type."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from trtnet.certify.networks import (
    attention,
    control,
    movement,
    pointwise,
    products,
    quantized,
    whole,
)
from trtnet.certify.networks.lab import Defined, Lab
from trtnet.errors import UsageError
from trtnet.names import did_you_mean
from trtnet.precision.table import TABLE

SET_VERSION = 3
"""Of the set of cases: another network, value or limit makes another version."""

FLOATS = ("fp32", "fp16", "bf16")
PRODUCTS = ("fp32", "tf32", "fp16", "bf16")
INTEGERS = ("int32", "int64")
ALL = (*FLOATS, *INTEGERS, "bool")
MODELS = ("fp32", "tf32", "fp16", "bf16", "int8")
PRECISIONS = ("fp32", "tf32", "fp16", "bf16", "int8", "fp8", "fp4", "int64", "int32", "bool")
"""What cases compute in, in the order in which they are shown."""

UNCOVERED = {
    "DIST_COLLECTIVE": "it runs on several GPUs at once; a case runs on one",
    "MOE": "trtnet's reference does not compute it, so there is nothing to compare with",
    "PLUGIN": "the oldest interface of plugins, which TensorRT has removed",
    "PLUGIN_V2": "a plugin of another library, whose result trtnet does not know",
}
"""Layer types that trtnet reads and no case uses, each with its reason."""

_PLUGIN = "plugin"

_DEFINITIONS: dict[str, tuple[Callable[[Lab], None], tuple[str, ...]]] = {
    "activation": (pointwise.activation, FLOATS),
    "unary": (pointwise.unary, ALL),
    "elementwise": (pointwise.elementwise, ALL),
    "scale": (pointwise.scale, FLOATS),
    "parametric_relu": (pointwise.parametric_relu, FLOATS),
    "select": (pointwise.select, ALL),
    "identity": (pointwise.identity, ALL),
    "cast": (pointwise.cast, (*FLOATS, *INTEGERS)),
    "convolution": (products.convolution, PRODUCTS),
    "deconvolution": (products.deconvolution, PRODUCTS),
    "matrix_multiply": (products.matrix_multiply, PRODUCTS),
    "einsum": (products.einsum, PRODUCTS),
    "pooling": (products.pooling, FLOATS),
    "lrn": (products.local_response, FLOATS),
    "normalization": (products.normalization, FLOATS),
    "softmax": (products.softmax, FLOATS),
    "ragged_softmax": (products.ragged_softmax, ("fp32",)),
    "reduce": (products.reduce, (*FLOATS, *INTEGERS)),
    "cumulative": (products.cumulative, (*FLOATS, *INTEGERS)),
    "shuffle": (movement.shuffle, ALL),
    "slice": (movement.slices, ALL),
    "concatenation": (movement.concatenation, ALL),
    "padding": (movement.padding, FLOATS),
    "gather": (movement.gather, ALL),
    "scatter": (movement.scatter, (*FLOATS, *INTEGERS)),
    "one_hot": (movement.one_hot, (*FLOATS, *INTEGERS)),
    "topk": (movement.topk, (*FLOATS, *INTEGERS)),
    "reverse_sequence": (movement.reverse_sequence, (*FLOATS, *INTEGERS)),
    "squeeze": (movement.squeeze, ALL),
    "resize": (movement.resize, FLOATS),
    "grid_sample": (movement.grid_sample, FLOATS),
    "fill": (movement.fill, ("fp32", *INTEGERS)),
    "constant": (movement.constant, ALL),
    "shape": (movement.shape, ALL),
    "loop": (control.counted_loop, FLOATS),
    "while": (control.while_loop, FLOATS),
    "conditional": (control.conditional, FLOATS),
    "assertion": (control.assertion, FLOATS),
    "non_zero": (control.non_zero, (*FLOATS, *INTEGERS)),
    "nms": (control.suppression, ("fp32", "fp16")),
    "attention": (attention.attention, FLOATS),
    "rotary_embedding": (attention.rotary_embedding, FLOATS),
    "kv_cache_update": (attention.cache_update, ("fp32", "fp16")),
    "quantize": (quantized.pair, ("int8", "fp8")),
    "quantized_convolution": (quantized.convolution, ("int8", "fp8")),
    "quantized_product": (quantized.matrix_multiply, ("int8", "fp8")),
    "block_scales": (quantized.block_scales, ("fp8", "fp4")),
    "dynamic_batch": (whole.dynamic_batch, PRODUCTS),
    _PLUGIN: (whole.plugin, ("fp32",)),
}  # fmt: skip

_MODELS: dict[str, int | None] = {"lenet5": None, "yolox_shapes": None, "mobilenet_v2": 64}
"""Models of the zoo, with the size of their images where it is not their own."""


_BLACKWELL = "12.0"  # scales for blocks; TensorRT-RTX has no build for 10.0

Define = Callable[[Any], Defined]


@dataclass(frozen=True)
class Case:
    """One network in one precision.

    Attributes:
        name: of the network.
        precision: one of :data:`PRECISIONS`.
        about: what it is, in a sentence.
        capability: the least compute capability of GPUs that have it; ``None`` for every GPU.
        variants: by name, what defines it with a loaded backend. Of models two: ``"modules"``
            compares the output of each module, ``""`` the outputs of the model as it is deployed,
            which is what is timed.
    """

    name: str
    precision: str
    about: str
    capability: str | None
    variants: dict[str, Define]

    @property
    def key(self) -> str:
        """Name and precision, such as ``"convolution:fp16"``."""
        return f"{self.name}:{self.precision}"

    @property
    def has_plugin(self) -> bool:
        """Whether its network has a plugin, which not every backend can have."""
        return self.name == _PLUGIN

    @property
    def is_model(self) -> bool:
        """Whether it is a model of the zoo, whose time is measured."""
        return self.name in _MODELS


def cases(only: Sequence[str] = (), precisions: Sequence[str] = ()) -> tuple[Case, ...]:
    """The cases of the set, in order.

    Args:
        only: patterns of names or keys, such as ``"conv*"``, ``"lenet5:fp16"``; none for all.
        precisions: only these; none for all.

    Raises:
        UsageError: a pattern that no case matches, or nothing is left.
    """
    every = tuple(_every())
    names = [case.name for case in every] + [case.key for case in every]
    for pattern in only:
        if not fnmatch.filter(names, pattern):
            raise UsageError(
                f"no case matches {pattern!r}",
                expected="a name of a case, or a pattern of names: " + ", ".join(_names()),
                fix=did_you_mean(pattern, dict.fromkeys(names))
                or "leave --only (only=) out for all cases",
            )
    chosen = tuple(
        case
        for case in every
        if (not precisions or case.precision in precisions)
        and (
            not only or any(fnmatch.fnmatchcase(x, p) for p in only for x in (case.name, case.key))
        )
    )
    if not chosen:
        raise UsageError(
            "no case is left",
            expected="cases that have one of the precisions",
            got=", ".join(precisions),
            fix="leave --precision (precisions=) or --only (only=) out",
        )
    return chosen


def case_of(key: str) -> Case:
    """The case called `key`."""
    return next(case for case in _every() if case.key == key)


def _names() -> list[str]:
    return [*_DEFINITIONS, *_MODELS]


def _every() -> Iterator[Case]:
    for name, (define, precisions) in _DEFINITIONS.items():
        about = (define.__doc__ or "").partition("\n")[0]
        for precision in precisions:
            needed = _BLACKWELL if name == "block_scales" else _capability(precision)
            yield Case(name, precision, about, needed, {"": _small(name, define, precision)})
    for name, image_size in _MODELS.items():
        define_model = whole.model(name, image_size)
        for precision in MODELS:
            variants = {
                variant: _of_model(define_model, precision, tapped)
                for variant, tapped in (("modules", True), ("", False))
            }
            about = define_model.__doc__ or ""
            yield Case(name, precision, about, _capability(precision), variants)


def _capability(precision: str) -> str | None:
    return TABLE[precision].capability if precision in TABLE else None


def _small(name: str, define: Callable[[Lab], None], precision: str) -> Define:
    def defined(backend: Any) -> Defined:
        from trtnet.network import Network

        exact = "tf32" if precision == "tf32" else "fp32"
        plugins = "kernel" if name == _PLUGIN else "auto"
        lab = Lab(Network(backend, exact, plugins=plugins), precision)
        define(lab)
        return lab.finish()

    return defined


def _of_model(define: Callable[..., Defined], precision: str, tapped: bool) -> Define:
    return lambda backend: define(backend, precision, tapped)

"""Finds what TensorRT takes without a word and a careful engineer would not leave in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from trtnet.errors import UsageError
from trtnet.graph import lint_rules
from trtnet.graph.lint_rules import Hit, Subject
from trtnet.graph.types import Graph


class Finding(NamedTuple):
    """One thing to look at.

    Attributes:
        code: of the rule, such as ``"C001"``; it never changes its meaning.
        layer: name of the layer it was found at.
        message: what is wrong there.
        fix: what to do about it.
    """

    code: str
    layer: str
    message: str
    fix: str

    def __str__(self) -> str:
        return f"{self.code} {self.layer}: {self.message} ({self.fix})"


class Rule(NamedTuple):
    """One rule.

    Attributes:
        title: what it finds, in a few words.
        explanation: why that matters, and what is left alone on purpose.
        check: finds it.
    """

    title: str
    explanation: str
    check: Callable[[Subject], Iterator[Hit]]


RULES: dict[str, Rule] = {
    "C001": Rule(
        "casts that cancel",
        "A value that is cast and cast back, also across a reshape or slice, moves through memory "
        "twice for nothing; through a narrower type it is rounded as well. A cast to the type the "
        "value already has is found too.",
        lint_rules.cancelling_casts,
    ),
    "P001": Rule(
        "channels of an FP16 convolution that are no multiple of 8",
        "Tensor cores take 16-bit channels in groups of 8: the rest of a group is computed and "
        "thrown away, or a slower kernel is chosen. Up to 4 channels of a network input are left "
        "alone, since there are kernels for images; so are the channels within one group of a "
        "grouped convolution.",
        lint_rules.unaligned_channels,
    ),
    "Q001": Rule(
        "a quantize between padding and convolution",
        "TensorRT merges padding into the convolution behind it, but not through a quantize.",
        lint_rules.quantize_after_padding,
    ),
    "Q002": Rule(
        "a residual shortcut without Q/DQ",
        "The add after a quantized convolution is fused into it only if the other operand is "
        "quantized too; otherwise the convolution writes its output in higher precision and the "
        "add runs by itself. On a ResNet-18 this decides whether INT8 is faster than FP16. Sums "
        "behind matrix products are left alone: a transformer's residual stream needs its digits.",
        lint_rules.unquantized_shortcut,
    ),
    "Q003": Rule(
        "global average pooling without Q/DQ",
        "The layers before a global average pooling write INT8 only if it reads INT8: without a "
        "Q/DQ pair in front of it they write, and it reads, two or four times as many bytes.",
        lint_rules.unquantized_pooling,
    ),
    "Q004": Rule(
        "Q/DQ between a product and what is fused behind it",
        "BatchNorm, activation and the addition of a shortcut run in the kernel of the convolution "
        "or matrix product before them. A pair in between makes two kernels of one, and rounds. "
        "Of an addition one operand alone is quantized: the shortcut.",
        lint_rules.pair_behind_product,
    ),
    "Q005": Rule(
        "doubled Q/DQ",
        "A tensor needs one pair, however many layers read it; a second one with the same scale "
        "is work done twice, and a pair right behind a pair rounds what is rounded already.",
        lint_rules.doubled_pairs,
    ),
    "Q006": Rule(
        "a product with one quantized operand",
        "A convolution or matrix product runs in INT8 or FP8 only if both operands are quantized. "
        "Otherwise the input is rounded for nothing. Quantized weights alone are meant to save "
        "memory, and left alone.",
        lint_rules.float_kernel,
    ),
    "S001": Rule(
        "dead layers",
        "No network output depends on the layer. TensorRT drops it silently, so it is either left "
        "over or something forgot to use it.",
        lint_rules.dead_layers,
    ),
    "S002": Rule(
        "unnamed layers",
        'A layer called "(Unnamed Layer* 3)" cannot be found again in profiles, logs and '
        "comparisons, and the number changes with every layer added before it.",
        lint_rules.unnamed_layers,
    ),
    "W001": Rule(
        "FP16 weights that are not finite",
        "A value of 65520 or more becomes infinity in FP16, and everything it touches infinity or "
        "NaN. A constant of zeros and negative infinities is taken for an attention mask. With a "
        "source, only values that are finite there count.",
        lint_rules.overflowed_weights,
    ),
    "W002": Rule(
        "FP16 weights that were flushed to zero",
        "Below 6.1e-5 FP16 has fewer digits than usual, below 3e-8 none. With a source, found "
        "where more than 1% of the values became zero. Without, zeros that were always zero "
        "cannot be told apart, so what stands next to them counts: found where more than 10% of "
        "the other values are subnormal, or where a whole kernel is zero.",
        lint_rules.flushed_weights,
    ),
}


def lint(graph: Graph, source: Graph | None = None) -> list[Finding]:
    """What is wrong with `graph`, or at least worth a look; sorted by code, then in layer order.

    Args:
        graph: the network.
        source: the same network in FP32. Its weights, joined by layer name, show exactly what a
            conversion to FP16 lost; it may be left out.
    """
    subject = Subject(graph, source)
    return [Finding(code, *hit) for code, rule in RULES.items() for hit in rule.check(subject)]


def explain(code: str) -> str:
    """What the rule `code` finds, and why that matters.

    >>> explain("Q001").splitlines()[0]
    'Q001: a quantize between padding and convolution'

    Raises:
        UsageError: there is no such rule.
    """
    if code not in RULES:
        raise UsageError(f"no lint rule {code!r}", expected=", ".join(RULES), got=code)
    rule = RULES[code]
    return f"{code}: {rule.title}\n{rule.explanation}"

"""Checks a graph for mistakes and waste that TensorRT accepts without a warning."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from trtnet.errors import UsageError
from trtnet.escaping import printable
from trtnet.graph import lint_rules
from trtnet.graph.lint_rules import CheckedGraph, Hit
from trtnet.graph.types import Graph
from trtnet.names import did_you_mean


class Finding(NamedTuple):
    """One place in a network where a rule is broken.

    Attributes:
        code: the rule's code, such as ``"C001"``; codes never change their meaning.
        layer: name of the layer.
        message: what is wrong there.
        fix: how to change the network.
    """

    code: str
    layer: str
    message: str
    fix: str

    def __str__(self) -> str:
        return printable(f"{self.code} {self.layer}: {self.message} ({self.fix})")


class Rule(NamedTuple):
    """One lint rule.

    Attributes:
        title: what the rule finds, in a few words.
        explanation: why that matters, and which cases the rule ignores on purpose.
        check: yields each place where the rule is broken.
    """

    title: str
    explanation: str
    check: Callable[[CheckedGraph], Iterator[Hit]]


RULES: dict[str, Rule] = {
    "C001": Rule(
        "casts that cancel",
        "A value that is cast and cast back, with or without a reshape or slice in between, goes "
        "through memory twice without need; a narrower type in between also rounds it. A cast to "
        "the type that the value already has is found too.",
        lint_rules.cancelling_casts,
    ),
    "P001": Rule(
        "channels of an FP16 convolution that are not a multiple of 8",
        "Tensor cores take 16-bit channels in groups of 8: the rest of a group is computed and "
        "thrown away, or a slower kernel is chosen. Ignored are network inputs of up to 4 "
        "channels, for which TensorRT has image kernels, and the channels within one group of a "
        "grouped convolution.",
        lint_rules.unaligned_channels,
    ),
    "Q001": Rule(
        "a quantize between padding and convolution",
        "TensorRT merges padding into the convolution that follows it, but not through a quantize.",
        lint_rules.quantize_after_padding,
    ),
    "Q002": Rule(
        "a residual shortcut without Q/DQ",
        "The add after a quantized convolution is fused into it only if the other operand is "
        "quantized too; otherwise the convolution writes its output in higher precision and the "
        "add runs as a kernel of its own. On a ResNet-18 this decides whether INT8 is faster than "
        "FP16. Sums after matrix products are ignored: a transformer's residual sums need the "
        "higher precision.",
        lint_rules.unquantized_shortcut,
    ),
    "Q003": Rule(
        "global average pooling without Q/DQ",
        "The layers before a global average pooling write INT8 only if it reads INT8: without a "
        "Q/DQ pair before it, two or four times as many bytes are written and read.",
        lint_rules.unquantized_pooling,
    ),
    "Q004": Rule(
        "Q/DQ between a product and a layer fused into it",
        "BatchNorm, activation and the addition of a shortcut run in the kernel of the convolution "
        "or matrix product before them. A pair in between splits that kernel in two and rounds "
        "once more. Of an addition only one operand is to be quantized: the shortcut.",
        lint_rules.pair_after_product,
    ),
    "Q005": Rule(
        "doubled Q/DQ",
        "A tensor needs one pair, however many layers read it. A second pair with the same scale "
        "repeats the work; a pair directly after a pair rounds twice.",
        lint_rules.doubled_pairs,
    ),
    "Q006": Rule(
        "a product with one quantized operand",
        "A convolution or matrix product runs in INT8 or FP8 only if both operands are quantized. "
        "Otherwise the input is rounded without any gain. Products of which only the weights are "
        "quantized are ignored: that saves memory.",
        lint_rules.float_kernel,
    ),
    "S001": Rule(
        "dead layers",
        "No network output depends on the layer. TensorRT drops it silently. Either it is not "
        "needed, or its output was meant to be used.",
        lint_rules.dead_layers,
    ),
    "S002": Rule(
        "unnamed layers",
        'A layer called "(Unnamed Layer* 3)" cannot be identified in profiles, logs and '
        "comparisons: the number changes with every layer added before it.",
        lint_rules.unnamed_layers,
    ),
    "W001": Rule(
        "FP16 weights that are not finite",
        "A value of 65520 or more becomes infinity in FP16, and results computed from it become "
        "infinity or NaN. A constant of zeros and negative infinities counts as an attention mask. "
        "With a source, only values that are finite there count.",
        lint_rules.overflowed_weights,
    ),
    "W002": Rule(
        "FP16 weights that were flushed to zero",
        "Below 6.1e-5 FP16 has fewer digits than usual, below 3e-8 none. With a source, weights "
        "are reported where more than 1% of the values became zero. Without one, flushed values "
        "cannot be told from true zeros: weights are reported where more than 10% of the nonzero "
        "values are subnormal, or where a whole kernel is zero.",
        lint_rules.flushed_weights,
    ),
}


def lint(graph: Graph, source: Graph | None = None) -> list[Finding]:
    """All findings of all rules in `graph`, sorted by code, then in layer order.

    Args:
        graph: the network.
        source: the same network in FP32, optional. Its weights, joined by layer name, show
            exactly which values a conversion to FP16 lost.
    """
    checked = CheckedGraph(graph, source)
    return [Finding(code, *hit) for code, rule in RULES.items() for hit in rule.check(checked)]


def explain(code: str) -> str:
    """The title and the explanation of the rule `code`.

    >>> explain("Q001").splitlines()[0]
    'Q001: a quantize between padding and convolution'

    Raises:
        UsageError: there is no such rule.
    """
    if code not in RULES:
        raise UsageError(
            f"no lint rule {code!r}",
            expected=", ".join(RULES),
            got=code,
            fix=did_you_mean(code, RULES) or "give one of these codes",
        )
    rule = RULES[code]
    return f"{code}: {rule.title}\n{rule.explanation}"

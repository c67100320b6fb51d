"""The ONNX node tests whose results differ in TensorRT's networks: why, and the proof.

Each reason comes with a proof: a function that looks for it in the network at hand. Where the
parser leaves something out that ONNX can also say in another way, it comes with that spelling.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx_cases import Case, parse
from onnx_spelling import with_defaults, with_function_body

Proof = Callable[[Case, dict[str, np.ndarray]], bool]
Spelling = Callable[[onnx.ModelProto], onnx.ModelProto]


@dataclasses.dataclass(frozen=True)
class Difference:
    """Why the network of some tests gives something else than the test expects.

    Attributes:
        reason: what happens, and where that is documented.
        proof: whether the network at hand shows it; takes the case and the reference's outputs.
        tests: names of the tests.
        spelling: the same model in other words, with which they must pass; None if there is none.
    """

    reason: str
    proof: Proof
    tests: tuple[str, ...]
    spelling: Spelling | None = None


def same_network(attribute: str, value: Any = None) -> Proof:
    """The parser makes the same network when `attribute` has `value` (or, if None, is absent)."""

    def proof(case: Case, _: dict[str, np.ndarray]) -> bool:
        model = onnx.ModelProto()
        model.CopyFrom(case.model)
        for node in model.graph.node:
            kept = [item for item in node.attribute if item.name != attribute]
            del node.attribute[:]
            node.attribute.extend(kept)
            if value is not None:
                node.attribute.append(onnx.helper.make_attribute(attribute, value))
        changed = parse(model)
        return changed is not None and changed.layers == case.network.layers

    return proof


def ignored_input(name: str) -> Proof:
    """The model uses the input `name`, and no layer of the network does."""

    def proof(case: Case, _: dict[str, np.ndarray]) -> bool:
        used = any(name in node.input for node in case.model.graph.node)
        return used and not any(name in layer.inputs for layer in case.network.layers)

    return proof


def other_shape(case: Case, _: dict[str, np.ndarray]) -> bool:
    """TensorRT itself states another shape than the test expects."""
    stated = case.network.tensors
    return any(stated[name].shape != array.shape for name, array in case.expected.items())


def other_dtype(case: Case, _: dict[str, np.ndarray]) -> bool:
    """TensorRT itself states another type than the test expects."""
    stated = case.network.tensors
    return any(stated[name].dtype != array.dtype.name for name, array in case.expected.items())


def other_order(case: Case, found: dict[str, np.ndarray]) -> bool:
    """The rows are the same, in another order."""
    pairs = ((found[name].tolist(), array.tolist()) for name, array in case.expected.items())
    return all(sorted(mine) == sorted(theirs) for mine, theirs in pairs)


def is_random(case: Case, _: dict[str, np.ndarray]) -> bool:
    """The network draws random numbers."""
    fills = (layer for layer in case.network.layers if layer.type == "FILL")
    return any(str(layer.attributes["op"]).startswith("RANDOM") for layer in fills)


_LAYER_DOCS = "https://docs.nvidia.com/deeplearning/tensorrt/latest/_static/operators"
DIFFERENT = (
    Difference(
        "The parser takes `upper` as 0 where the model leaves it out; ONNX's default is 1.",
        same_network("upper", 0),
        tuple(
            f"test_triu{tail}"
            for tail in (
                *("", "_neg", "_one_row", "_out_neg_out", "_out_pos", "_pos", "_square"),
                "_square_neg",
            )
        ),
        with_defaults,
    ),
    Difference(
        "The parser ignores `mode`, new in SpaceToDepth's latest version: it always emits DCR.",
        same_network("mode", "DCR"),
        ("test_spacetodepth_crd_mode_example",),
        with_function_body,
    ),
    Difference(
        "The parser ignores `saturate`: an ICastLayer has no such attribute "
        f"({_LAYER_DOCS}/Cast.html), and casts to FP8 saturate.",
        same_network("saturate", 1),
        tuple(
            f"test_{op}_no_saturate_{source}_to_FLOAT8E4M3FN{tail}"
            for source in ("FLOAT", "FLOAT16")
            for op, tail in (("cast", ""), ("castlike", ""), ("castlike", "_expanded"))
        ),
    ),
    Difference(
        "The parser ignores `left_window_size` and `right_window_size`, new in Attention's latest "
        "version; an IAttention has no window.",
        same_network("left_window_size"),
        ("test_attention_local_window", "test_attention_bidirectional_window"),
        with_function_body,
    ),
    Difference(
        "The parser ignores `layout`: it always takes the sequence as axis 0.",
        same_network("layout", 0),
        ("test_gru_batchwise", "test_lstm_batchwise", "test_simple_rnn_batchwise"),
    ),
    Difference(
        "The parser ignores the input `nonpad_kv_seqlen`; no layer takes it.",
        ignored_input("nonpad_kv_seqlen"),
        (
            "test_attention_4d_causal_nonpad_batch_prefill",
            "test_attention_4d_causal_nonpad_continued_prefill",
            "test_attention_4d_causal_nonpad_negative_offset_structural_empty",
            "test_attention_4d_gqa_causal_nonpad_decode",
            "test_attention_4d_gqa_causal_nonpad_decode_fp16",
        ),
        with_function_body,
    ),
    Difference(
        "EXPLICIT_ROUND_UP keeps a last window that starts in the padding or after the input, "
        "which ONNX drops: TensorRT states the larger shape. The formula is documented with "
        "nvinfer1::PaddingMode.",
        other_shape,
        (
            "test_averagepool_2d_ceil_last_window_starts_on_pad",
            "test_maxpool_2d_ceil_output_size_reduce_by_one",
        ),
    ),
    Difference(
        "TensorRT quantizes to signed types only: for a UINT8 zero point its IQuantizeLayer states "
        f"INT8 ({_LAYER_DOCS}/Quantize.html).",
        other_dtype,
        (
            "test_quantizelinear",
            "test_quantizelinear_axis",
            "test_quantizelinear_blocked_asymmetric",
        ),
    ),
    Difference(
        "INMSLayer sorts a batch item's boxes by score, whatever their class, and leaves the order "
        f"of equal scores open ({_LAYER_DOCS}/NMS.html). ONNX's text calls the rows a set and "
        "states no order; the test's have one class after the other.",
        other_order,
        ("test_nonmaxsuppression_two_classes",),
    ),
    Difference(
        "Random numbers: the test expects those of one NumPy generator.",
        is_random,
        ("test_bernoulli_double_expanded", "test_bernoulli_seed_expanded"),
    ),
)

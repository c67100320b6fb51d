"""The JSON in an archive of a graph: what it may say of tensors, layers and their attributes."""

from __future__ import annotations

import functools
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from trtnet.graph.layers import KINDS

MOST_AXES = 8  # TensorRT's own limit
Int = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Size = Annotated[int, Meta(ge=-1, le=2**31 - 1)]
Sizes = Annotated[tuple[Size, ...], Meta(max_length=MOST_AXES)]
Ints = Annotated[tuple[Int, ...], Meta(max_length=MOST_AXES)]
Floats = Annotated[tuple[float, ...], Meta(max_length=MOST_AXES)]
Value = Any  # one of the types of _type(): which of them depends on the layer


class StoredTensor(msgspec.Struct, frozen=True):
    """A tensor; see :class:`trtnet.graph.TensorInfo`."""

    name: str
    dtype: str
    shape: Sizes
    dimension_names: tuple[str | None, ...]


class StoredLayer(msgspec.Struct, frozen=True):
    """A layer; see :class:`trtnet.graph.Layer`. Its `weights` are only named: their arrays are
    tensors of the archive."""

    name: str
    type: str
    inputs: tuple[str | None, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Value]
    weights: tuple[str, ...]


class StoredGraph(msgspec.Struct, frozen=True):
    """A graph; see :class:`trtnet.graph.Graph`."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    tensors: list[StoredTensor]
    layers: list[StoredLayer]


_TEXTS = (
    *(
        "op",
        "op0",
        "op1",
        "mode",
        "kind",
        "loop",
        "conditional",
        "message",
        "equation",
        "attention",
    ),
    *("padding_mode", "to_type", "indices_type", "interpolation_mode", "sample_mode", "scale_type"),
    *("bounding_box_format", "coordinate_transformation", "selector_for_single_pixel"),
    *("nearest_rounding", "plugin_name", "plugin_version", "plugin_namespace", "fields"),
)
_TRUTHS = (
    *("align_corners", "average_count_excludes_padding", "causal", "exclude_outside", "exclusive"),
    *("interleaved", "is_v2", "keep_dims", "reverse", "zero_is_placeholder"),
)
_COUNTS = (
    *("axis", "axes", "batch_axis", "sequence_axis", "channel_axis", "k", "num_elementwise_dims"),
    *("num_groups", "num_output_maps", "window_size", "rotary_embedding_dim", "topk_box_limit"),
)
_ROWS = (
    *("block_shape", "dilation_nd", "first_transpose", "kernel_size_nd", "post_padding"),
    *("post_padding_nd", "pre_padding", "pre_padding_nd", "reshape_dims", "second_transpose"),
    *("shape", "start", "stride", "stride_nd", "window_size_nd"),
)
_NUMBERS = ("alpha", "beta", "blend_factor", "cubic_coeff", "epsilon")
_TYPES: dict[str, Any] = {
    **dict.fromkeys(_TEXTS, str),
    **dict.fromkeys(_TRUTHS, bool),
    **dict.fromkeys(_COUNTS, Int),
    **dict.fromkeys(_ROWS, Ints),
    **dict.fromkeys(_NUMBERS, Int | float),
    "scales": Floats,
}
_OF_LAYER = {("SLICE", "axes"): Ints, ("LRN", "k"): float}
_ANY = bool | Int | float | str | Annotated[tuple[Int | float, ...], Meta(max_length=MOST_AXES)]


@functools.lru_cache(None)
def attributes_of(layer_type: str) -> type[msgspec.Struct]:
    """The schema of the attributes of a layer, whose type is one of
    :data:`trtnet.graph.layers.KINDS`.

    An attribute that a tensor gives, or that the binding lacks, is ``None``; those that trtnet
    writes into the layer's metadata may be missing.
    """
    kind = KINDS[layer_type]
    names = [entry.partition("=")[0] for entry in kind.attributes]
    fields: list[Any] = [(name, _type(layer_type, name)) for name in names]
    fields += [(name, _type(layer_type, name) | UnsetType, UNSET) for name in kind.marked]
    return msgspec.defstruct(layer_type, fields, forbid_unknown_fields=True, kw_only=True)


def _type(layer_type: str, name: str) -> Any:
    return _OF_LAYER.get((layer_type, name), _TYPES.get(name, _ANY)) | None


_ANY_NUMBER = 2**31
_INPUTS: dict[str, tuple[int, int]] = {
    **dict.fromkeys(("PLUGIN", "PLUGIN_V2", "PLUGIN_V3"), (0, _ANY_NUMBER)),
    "CONSTANT": (0, 0),
    "FILL": (0, 3),
    **dict.fromkeys(
        (
            *("ACTIVATION", "ASSERTION", "CAST", "CONDITION", "CONDITIONAL_INPUT", "IDENTITY"),
            *("ITERATOR", "LRN", "NON_ZERO", "PADDING", "POOLING", "REDUCE", "SCALE", "SHAPE"),
            *("SOFTMAX", "TRIP_LIMIT", "UNARY"),
        ),
        (1, 1),
    ),
    **dict.fromkeys(("LOOP_OUTPUT", "RECURRENCE", "SHUFFLE", "TOPK"), (1, 2)),
    **dict.fromkeys(("CONVOLUTION", "DECONVOLUTION", "NORMALIZATION"), (1, 3)),
    "RESIZE": (1, 4),
    "SLICE": (1, 6),
    **dict.fromkeys(
        (
            *("CONDITIONAL_OUTPUT", "CUMULATIVE", "ELEMENTWISE", "GATHER", "GRID_SAMPLE"),
            *("MATRIX_MULTIPLY", "PARAMETRIC_RELU", "RAGGED_SOFTMAX", "REVERSE_SEQUENCE"),
            *("SQUEEZE", "UNSQUEEZE"),
        ),
        (2, 2),
    ),
    **dict.fromkeys(("DEQUANTIZE", "QUANTIZE"), (2, 3)),
    **dict.fromkeys(("ONE_HOT", "SCATTER", "SELECT"), (3, 3)),
    "NMS": (3, 6),
}
_FEWEST_OUTPUTS = {
    **dict.fromkeys(("ASSERTION", "CONDITION", "TRIP_LIMIT"), 0),
    **dict.fromkeys(("PLUGIN", "PLUGIN_V2", "PLUGIN_V3"), 0),
    **dict.fromkeys(("NMS", "TOPK"), 2),
}


def inputs_of(layer_type: str) -> tuple[int, int]:
    """The fewest and the most inputs of a layer; the fewest are always connected."""
    return _INPUTS.get(layer_type, (1, _ANY_NUMBER))


def fewest_outputs(layer_type: str) -> int:
    """How many outputs a layer has at least."""
    return _FEWEST_OUTPUTS.get(layer_type, 1)

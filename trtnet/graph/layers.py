"""The table of layer types: binding class, attributes and weights that are read of each."""

from __future__ import annotations

from typing import NamedTuple


class LayerKind(NamedTuple):
    """How one ``trt.LayerType`` is read.

    Attributes:
        class_name: the binding's class of such layers.
        attributes: properties to read; ``name=property`` renames one in the graph, and
            ``name=object.property`` reads it from an object the layer belongs to.
        weights: properties that hold weights.
        marked: attributes that trtnet writes into the layer's metadata, such as a plugin's
            fields as JSON; optional, since layers of other programs lack them.
    """

    class_name: str
    attributes: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()
    marked: tuple[str, ...] = ()


_WINDOW = ("stride_nd", "pre_padding", "post_padding", "padding_mode")
_BLOCKS = ("axis", "block_shape", "to_type")
_ATTENTION = tuple(
    f"{name}=attention.{name}"
    for name in (
        *("norm_op", "causal", "causal_kind", "decomposable", "query_form", "key_value_form"),
        *("normalization_quantize_to_type", "num_ranks"),
    )
)
_PLUGIN = ("plugin_version", "plugin_namespace")
_CONVOLUTION = ("num_output_maps", "kernel_size_nd", "dilation_nd", "num_groups", *_WINDOW)

KINDS: dict[str, LayerKind] = {
    "ACTIVATION": LayerKind("IActivationLayer", ("op=type", "alpha", "beta")),
    "ASSERTION": LayerKind("IAssertionLayer", ("message",)),
    "ATTENTION_INPUT": LayerKind("IAttentionInputLayer", ("attention=attention.name", *_ATTENTION)),
    "ATTENTION_OUTPUT": LayerKind("IAttentionOutputLayer", ("attention=attention.name",)),
    "CAST": LayerKind("ICastLayer", ("to_type",)),
    "CONCATENATION": LayerKind("IConcatenationLayer", ("axis",)),
    "CONDITION": LayerKind("IConditionLayer", ("conditional",)),
    "CONDITIONAL_INPUT": LayerKind("IIfConditionalInputLayer", ("conditional",)),
    "CONDITIONAL_OUTPUT": LayerKind("IIfConditionalOutputLayer", ("conditional",)),
    "CONSTANT": LayerKind("IConstantLayer", ("shape",), ("weights",)),
    "CONVOLUTION": LayerKind("IConvolutionLayer", _CONVOLUTION, ("kernel", "bias")),
    "CUMULATIVE": LayerKind("ICumulativeLayer", ("op", "exclusive", "reverse")),
    "DECONVOLUTION": LayerKind("IDeconvolutionLayer", _CONVOLUTION, ("kernel", "bias")),
    "DEQUANTIZE": LayerKind("IDequantizeLayer", _BLOCKS),
    "DIST_COLLECTIVE": LayerKind("IDistCollectiveLayer", ("num_ranks",)),
    "DYNAMIC_QUANTIZE": LayerKind("IDynamicQuantizeLayer", (*_BLOCKS, "block_size", "scale_type")),
    "EINSUM": LayerKind("IEinsumLayer", ("equation",)),
    "ELEMENTWISE": LayerKind("IElementWiseLayer", ("op",)),
    "FILL": LayerKind("IFillLayer", ("op=operation", "shape", "alpha", "beta", "to_type")),
    "GATHER": LayerKind("IGatherLayer", ("axis", "mode", "num_elementwise_dims")),
    "GRID_SAMPLE": LayerKind(
        "IGridSampleLayer", ("interpolation_mode", "align_corners", "sample_mode")
    ),
    "IDENTITY": LayerKind("IIdentityLayer"),
    "ITERATOR": LayerKind("IIteratorLayer", ("loop", "axis", "reverse")),
    "KV_CACHE_UPDATE": LayerKind("IKVCacheUpdateLayer", ("cache_mode", "update_form")),
    "LOOP_OUTPUT": LayerKind("ILoopOutputLayer", ("loop", "kind", "axis")),
    "LRN": LayerKind("ILRNLayer", ("window_size", "alpha", "beta", "k")),
    "MATRIX_MULTIPLY": LayerKind("IMatrixMultiplyLayer", ("op0", "op1")),
    "MOE": LayerKind(
        "IMoELayer",
        (
            *("activation_type", "quantization_to_type", "quantization_block_shape"),
            *("dyn_q_output_scale_type", "swiglu_param_limit"),
            *("swiglu_param_alpha", "swiglu_param_beta"),
        ),
    ),
    "NMS": LayerKind("INMSLayer", ("bounding_box_format", "topk_box_limit", "indices_type")),
    "NON_ZERO": LayerKind("INonZeroLayer", ("indices_type",)),
    "NORMALIZATION": LayerKind("INormalizationLayer", ("axes", "epsilon", "num_groups", "is_v2")),
    "ONE_HOT": LayerKind("IOneHotLayer", ("axis",)),
    "PADDING": LayerKind("IPaddingLayer", ("pre_padding_nd", "post_padding_nd")),
    "PARAMETRIC_RELU": LayerKind("IParametricReLULayer"),
    "PLUGIN": LayerKind("ILayer"),
    "PLUGIN_V2": LayerKind("IPluginV2Layer", ("plugin_name=plugin_type", *_PLUGIN)),
    "PLUGIN_V3": LayerKind("IPluginV3Layer", ("plugin_name", *_PLUGIN), marked=("fields",)),
    "POOLING": LayerKind(
        "IPoolingLayer",
        ("op=type", "window_size_nd", *_WINDOW, "blend_factor", "average_count_excludes_padding"),
    ),
    "QUANTIZE": LayerKind("IQuantizeLayer", _BLOCKS),
    "RAGGED_SOFTMAX": LayerKind("IRaggedSoftMaxLayer"),
    "RECURRENCE": LayerKind("IRecurrenceLayer", ("loop",)),
    "REDUCE": LayerKind("IReduceLayer", ("op", "axes", "keep_dims")),
    "RESIZE": LayerKind(
        "IResizeLayer",
        (
            "mode=resize_mode",
            "shape",
            "scales",
            "coordinate_transformation",
            "selector_for_single_pixel",
            "nearest_rounding",
            "cubic_coeff",
            "exclude_outside",
        ),
    ),
    "REVERSE_SEQUENCE": LayerKind("IReverseSequenceLayer", ("batch_axis", "sequence_axis")),
    "ROTARY_EMBEDDING": LayerKind("IRotaryEmbeddingLayer", ("interleaved", "rotary_embedding_dim")),
    "SCALE": LayerKind("IScaleLayer", ("mode", "channel_axis"), ("shift", "scale", "power")),
    "SCATTER": LayerKind("IScatterLayer", ("axis", "mode")),
    "SELECT": LayerKind("ISelectLayer"),
    "SHAPE": LayerKind("IShapeLayer"),
    "SHUFFLE": LayerKind(
        "IShuffleLayer",
        ("first_transpose", "reshape_dims", "second_transpose", "zero_is_placeholder"),
    ),
    "SLICE": LayerKind("ISliceLayer", ("start", "shape", "stride", "axes", "mode")),
    "SOFTMAX": LayerKind("ISoftMaxLayer", ("axes",)),
    "SQUEEZE": LayerKind("ISqueezeLayer"),
    "TOPK": LayerKind("ITopKLayer", ("op", "k", "axes", "indices_type")),
    "TRIP_LIMIT": LayerKind("ITripLimitLayer", ("loop", "kind")),
    "UNARY": LayerKind("IUnaryLayer", ("op",)),
    "UNSQUEEZE": LayerKind("IUnsqueezeLayer"),
}

# Attributes that name the loop or conditional a boundary layer belongs to.
CONTROL = ("loop", "conditional")

"""Which operand types TensorRT takes together, and which layers round."""

from __future__ import annotations

from trtnet.dtypes import held_dtype_name
from trtnet.errors import NetworkError
from trtnet.graph.types import Graph, Layer

# Inputs that must have one type, by position; None: all of them.
_SAME: dict[str, tuple[int, ...] | None] = {
    "CONCATENATION": None,
    "CONVOLUTION": None,
    "DECONVOLUTION": None,
    "EINSUM": None,
    "ELEMENTWISE": None,
    "GRID_SAMPLE": None,
    "MATRIX_MULTIPLY": None,
    "NORMALIZATION": None,
    "ATTENTION_INPUT": (0, 1, 2),
    "CONDITIONAL_OUTPUT": None,
    "KV_CACHE_UPDATE": (0, 1),
    "NMS": (0, 1),
    "PARAMETRIC_RELU": None,
    "RECURRENCE": None,
    "ROTARY_EMBEDDING": (0, 1, 2),
    "SCATTER": (0, 2),
    "SELECT": (1, 2),
}

# Layers whose operation works in the values' own type: it only moves values, or converts them once,
# or rounds by itself, as plugins do. All others compute half-precision values in float32 and round
# the result once.
KEEPS_TYPE = frozenset(
    {
        *("ASSERTION", "ATTENTION_OUTPUT", "CAST", "CONCATENATION", "CONSTANT", "FILL", "GATHER"),
        *("IDENTITY", "KV_CACHE_UPDATE", "NON_ZERO", "ONE_HOT", "PADDING", "PLUGIN_V3"),
        *("REVERSE_SEQUENCE", "SCATTER", "SELECT", "SHAPE", "SHUFFLE", "SLICE", "SQUEEZE"),
        *("TOPK", "UNSQUEEZE"),
    }
)

# Inputs that are sizes, axes or counts: PyTorch needs their values on the CPU.
HOST_INPUTS: dict[str, tuple[int, ...]] = {
    "ASSERTION": (0,),
    "CUMULATIVE": (1,),
    "FILL": (0, 1, 2),
    "KV_CACHE_UPDATE": (2, 3),
    "NMS": (2, 3, 4),
    "ONE_HOT": (2,),
    "RESIZE": (1,),
    "SHUFFLE": (1,),
    "SLICE": (1, 2, 3, 5),
    "SQUEEZE": (1,),
    "TOPK": (1,),
    "UNSQUEEZE": (1,),
}


def check_types(graph: Graph, layer: Layer) -> None:
    """Refuses operands of types that TensorRT does not take together.

    Raises:
        NetworkError: operands of different types; it names them, and the caller the layer.
    """
    found: dict[str, str] = {}
    positions = _SAME.get(layer.type, ())
    for i, name in enumerate(layer.inputs):
        if name is not None and (positions is None or i in positions):
            found[f"input {i} ({name})"] = graph.tensors[name].dtype
    if layer.type == "SCALE" and layer.inputs[0] is not None:
        found["input 0"] = graph.tensors[layer.inputs[0]].dtype
    if found and layer.type != "CONSTANT":
        for name, array in layer.weights.items():
            found[name] = held_dtype_name(array)
    if len(set(found.values())) > 1:
        raise NetworkError(
            "operands of different types; TensorRT converts nothing by itself",
            expected="one type",
            got=", ".join(f"{what}: {dtype}" for what, dtype in found.items()),
            fix="insert a cast",
        )

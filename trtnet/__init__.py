"""trtnet: PyTorch-like layers over TensorRT's network-definition API, with a model zoo.

Names are imported on first use, so that ``import trtnet`` loads neither torch nor TensorRT.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

__version__ = "0.1.0"

# In a checkout `trtnet.zoo` and `trtnet.weights` are the top-level folders zoo/ and weights/.
_checkout = Path(__file__).resolve().parent.parent
if (_checkout / "zoo" / "registry.py").is_file():
    __path__.append(str(_checkout))

_HOMES = {
    "trtnet.building.builder": ("build", "BuildConfig"),
    "trtnet.building.profiles": ("Shapes",),
    "trtnet.building.plan": ("Plan",),
    "trtnet.dtypes": (
        *("DType", "float32", "float16", "bfloat16", "int64", "int32", "int8", "uint8"),
        "bool_",
    ),
    "trtnet.errors": (
        *("TrtnetError", "BackendError", "BuildError", "NetworkError", "PlanError", "ShapeError"),
        *("UnsupportedError", "UsageError", "VerificationError", "WeightsError"),
    ),
    "trtnet.module": ("Module", "Parameter"),
    "trtnet.network": ("Network",),
    "trtnet.plugins.decorator": ("plugin",),
    "trtnet.precision.policy": ("Policy",),
    "trtnet.ops": (
        *("abs", "amax", "amin", "argmax", "argmin", "cat", "chunk", "clamp", "einsum", "erf"),
        *("exp", "flatten", "gather", "log", "matmul", "max", "mean", "min", "permute", "pow"),
        *("maximum", "minimum", "prod", "relu", "reshape", "roll", "rsqrt", "sigmoid", "softmax"),
        *("split", "sqrt", "squeeze", "stack", "sum", "tanh", "topk", "transpose", "unbind"),
        *("unsqueeze", "where"),
    ),
    "trtnet.engines.session": ("Session",),
    "trtnet.tensor": ("Dim", "Tensor"),
    "trtnet.verification": ("Verification", "verify"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
_SUBMODULES = (
    *("backend", "benchmark", "graph", "nn", "ops", "plugins", "quantization", "reference"),
    *("engines", "weights", "zoo"),
)

__all__ = ["__version__", *_SUBMODULES, *_HOME_OF]


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return importlib.import_module(f"trtnet.{name}")
    if name not in _HOME_OF:
        raise AttributeError(f"module 'trtnet' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)

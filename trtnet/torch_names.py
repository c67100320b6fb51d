"""The names of ``torch`` that trtnet has besides its own: PyTorch's, or declared here."""

from __future__ import annotations

from typing import Any

from trtnet import ops
from trtnet.amp import autocast
from trtnet.dtypes import DType, bool_, float16, float32, int32, int64
from trtnet.errors import UsageError
from trtnet.host import as_host, as_torch, pytorch
from trtnet.host.names import absent, host_function
from trtnet.tensor.conversion import tensor_of_values

DTYPES = {
    "float": float32,
    "half": float16,
    "int": int32,
    "long": int64,
    "bool": bool_,
    "dtype": DType,
}
"""PyTorch's short names of element types that trtnet has."""

_LISTED = (
    # element types that networks lack; values of the host may have them
    "float64 double complex32 complex64 complex128 chalf cfloat cdouble int16 short uint16 uint32 "
    "uint64 float8_e4m3fn float8_e5m2 qint8 quint8 qint32 "
    # classes and constants
    "device Size Generator layout memory_format strided contiguous_format channels_last "
    "channels_last_3d preserve_format pi inf nan e newaxis SymInt SymFloat SymBool ScriptFunction "
    "Storage UntypedStorage default_generator sparse_coo per_tensor_affine per_channel_affine "
    # contexts and switches, without effect on networks
    "no_grad enable_grad inference_mode set_grad_enabled "
    # packages of PyTorch
    "backends mps xpu optim distributed distributions serialization onnx ao linalg fft special "
    "random version library compiler overrides types package func export _C _dynamo "
    "functional cpu sparse nested masked testing signal multiprocessing profiler accelerator "
    "futures storage classes torch_version return_types quasirandom"
)
NAMES = frozenset(_LISTED.split())
"""Names that are PyTorch's own, of things that are no functions."""

_LEGACY = frozenset(
    f"{kind}Tensor" for kind in ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short",
                                 "Char", "Byte", "Bool")
)  # fmt: skip
"""Constructors of values of the host."""

_PRIVATE = frozenset({"_assert", "_C", "_dynamo"})


def attribute(name: str) -> Any:
    """What ``torch.name`` is for code that was written for PyTorch.

    A function of PyTorch that is no operator of trtnet runs on values of the host, and refuses
    a :class:`trtnet.Tensor`.

    Raises:
        AttributeError: neither trtnet nor PyTorch has the name, or PyTorch is not installed.
    """
    if name in DTYPES:
        return DTYPES[name]
    if name in _OWN:
        return _OWN[name]
    if name.startswith("_") and name not in _PRIVATE:
        raise AttributeError(f"module 'trtnet' has no attribute {name!r}")
    found = _of_pytorch(name)
    if found is None:
        known = sorted({*DTYPES, *_OWN, *NAMES, *dir(ops)})
        raise absent("trtnet", f"torch.{name}", known)
    if name in NAMES or not (name in _LEGACY or _is_function(found)):
        return found
    return _constructor(name, found) if name in _LEGACY else host_function(name, found)


def _constructor(name: str, kind: Any) -> Any:
    def make(*args: Any, **kwargs: Any) -> Any:
        return tensor_of_values(kind, args, kwargs)

    make.__name__ = make.__qualname__ = name
    make.__doc__ = f"Values of the host from sizes or from data; ``torch.{name}``."
    return make


def _of_pytorch(name: str) -> Any:
    try:
        torch = pytorch()
    except UsageError:  # hasattr(trtnet, name) is a question
        return None
    found = getattr(torch, name, None)
    known = NAMES | _PRIVATE | _LEGACY
    return found if name in known or _is_function(found) else None


def _is_function(value: Any) -> bool:
    return callable(value) and not isinstance(value, type)


def is_tensor(obj: Any) -> bool:
    """Whether `obj` is a Tensor, a Parameter or a tensor of PyTorch."""
    return (
        hasattr(type(obj), "itensor") or hasattr(type(obj), "on_host") or pytorch().is_tensor(obj)
    )


def compile_(model: Any = None, **options: Any) -> Any:
    """`model` itself, as ``torch.compile`` without effect; also a decorator."""
    return model if model is not None else compile_


def _of_types(name: str) -> Any:
    def ask(*types: Any) -> Any:
        return getattr(pytorch(), name)(*as_torch(types))

    ask.__name__ = ask.__qualname__ = name
    return ask


def from_numpy(ndarray: Any) -> Any:
    """Values of the host that share the memory of an array."""
    return as_host(pytorch().from_numpy(ndarray))


_OWN = {
    "from_numpy": from_numpy,
    "autocast": autocast,
    "compile": compile_,
    "finfo": _of_types("finfo"),
    "iinfo": _of_types("iinfo"),
    "is_tensor": is_tensor,
}

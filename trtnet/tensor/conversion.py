"""What PyTorch's ``Tensor(...)``, ``Tensor.to`` and ``Tensor.type`` take as arguments."""

from __future__ import annotations

from typing import Any

from trtnet.dtypes import DType, dtype_of
from trtnet.errors import UnsupportedError
from trtnet.host import as_host, as_torch, network_of

_LEGACY = {
    "FloatTensor": "float32", "DoubleTensor": "float64", "HalfTensor": "float16",
    "BFloat16Tensor": "bfloat16", "LongTensor": "int64", "IntTensor": "int32",
    "ShortTensor": "int16", "CharTensor": "int8", "ByteTensor": "uint8", "BoolTensor": "bool",
}  # fmt: skip


def conversion_target(args: tuple[Any, ...], dtype: object) -> tuple[DType | None, list[bool]]:
    """The type among the arguments of ``Tensor.to``, and the flags behind it.

    Raises:
        UnsupportedError: no type that trtnet has, or too many arguments.
    """
    wanted = None if dtype is None else dtype_of(dtype)
    flags = []
    for arg in args:
        if isinstance(arg, bool):
            flags.append(arg)
        elif isinstance(getattr(arg, "dtype", None), DType):
            wanted = arg.dtype  # of another tensor
        elif not _is_device(arg):
            wanted = dtype_of(arg)
    if len(args) > 4:
        raise UnsupportedError("to() takes at most a device, a type and two flags", got=args)
    return wanted, flags


def _is_device(value: object) -> bool:
    if value is None or isinstance(value, int) or type(value).__name__ == "device":
        return True
    kinds = ("cpu", "cuda", "meta", "mps", "xpu", "hip")
    return isinstance(value, str) and value.partition(":")[0] in kinds


def type_named(value: Any) -> DType:
    """The type that ``Tensor.type`` is given: a dtype, ``torch.FloatTensor``, or its name.

    Raises:
        UnsupportedError: no type that trtnet has.
    """
    name = value if isinstance(value, str) else getattr(value, "__name__", "")
    return dtype_of(_LEGACY.get(name.rpartition(".")[2], value))


def name_of_type(dtype: DType) -> str:
    """The name that ``Tensor.type()`` gives, such as ``"torch.FloatTensor"``."""
    names = {element: name for name, element in _LEGACY.items()}
    return f"torch.{names.get(dtype.element.torch, dtype.element.torch)}"


def tensor_of_values(kind: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """``torch.Tensor(*args)`` and the like: values of the host from sizes or from data. Of a
    :class:`trtnet.Tensor` that tensor in the type of `kind`.

    Args:
        kind: ``torch.Tensor``, ``torch.LongTensor`` ...

    Raises:
        UnsupportedError: a size is known only at run time, or data are.
    """
    if len(args) == 1 and hasattr(type(args[0]), "itensor") and kind.__name__ != "Tensor":
        return args[0].to(type_named(kind))
    if network_of(args) is not None:
        raise UnsupportedError(
            f"{kind.__name__}(...) makes values of the host, whose sizes and data are known",
            got=args,
            fix="use trtnet.zeros(...), trtnet.stack(...), or tensor.float()",
        )
    return as_host(kind(*as_torch(args), **as_torch(kwargs)))

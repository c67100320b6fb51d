"""The arguments of ``Tensor.to``: types, devices, other tensors, flags."""

from __future__ import annotations

from typing import Any

from trtnet.dtypes import DType, dtype_of
from trtnet.errors import UnsupportedError


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

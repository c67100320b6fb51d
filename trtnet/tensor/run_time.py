"""What PyTorch does with the values of a tensor; a network has none while it is being defined."""

from __future__ import annotations

from typing import Any, NoReturn

from trtnet.errors import ShapeError

_FIX = (
    "compute with the tensor itself (trtnet.where(condition, a, b) instead of if), or make the "
    "value a constant of the model"
)


class RunTimeValues:
    """The methods of :class:`trtnet.Tensor` that would need values known only at run time.

    Each raises :class:`ShapeError`.
    """

    __slots__ = ()

    def _unknown(self, what: str, fix: str = _FIX) -> NoReturn:
        name = getattr(self, "name", "the tensor")
        raise ShapeError(f"{what}: the values of {name} are known only at run time", fix=fix)

    def __bool__(self) -> bool:
        self._unknown("bool(tensor)", "use trtnet.where(condition, a, b) instead of if")

    def __contains__(self, item: object) -> bool:
        self._unknown("value in tensor", "use (tensor == value).any()")

    def __float__(self) -> float:
        self._unknown("float(tensor)")

    def __int__(self) -> int:
        self._unknown("int(tensor)")

    def __index__(self) -> int:
        self._unknown(
            "a tensor as an int",
            "use a size (x.shape[i]) or an int; a tensor can be an index only inside []",
        )

    def __complex__(self) -> complex:
        self._unknown("complex(tensor)")

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        self._unknown("an array of a tensor", "keep it a tensor: trtnet's functions take it")

    def item(self) -> Any:
        """Not known while the network is being defined."""
        self._unknown("item()")

    def tolist(self) -> Any:
        """Not known while the network is being defined."""
        self._unknown("tolist()")

    def numpy(self, *, force: bool = False) -> Any:
        """Not known while the network is being defined."""
        self._unknown("numpy()")

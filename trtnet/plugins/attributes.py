"""The attributes of a plugin: typed, checked, and stored in the engine as JSON."""

from __future__ import annotations

import inspect
import json
import math
import typing
from collections.abc import Mapping
from typing import Any

from trtnet.errors import UsageError

# What TensorRT can store: numbers, text, and rows of numbers.
_ITEMS: Mapping[Any, type] = {
    tuple[int, ...]: int,
    tuple[float, ...]: float,
}
_SCALARS = (bool, int, float, str)
_KINDS = "bool, int, float, str, tuple[int, ...] or tuple[float, ...]"
_RESERVED = {"outputs", "stream", "tactic"}  # names of TensorRT's own arguments


class Attributes:
    """The attributes of one plugin class, in order.

    Args:
        declared: the class whose annotations are the attributes.

    Attributes:
        types: type of each, by name: ``bool``, ``int``, ``float``, ``str``, ``tuple[int, ...]`` or
            ``tuple[float, ...]``.
        signature: signature of the plugin's constructor.

    Raises:
        UsageError: an annotation that cannot be read or stored, or a reserved name.
    """

    def __init__(self, declared: type) -> None:
        try:
            hints = typing.get_type_hints(declared)
        except NameError as error:
            raise UsageError("an annotation that cannot be read", got=error) from error
        own = [name for name in inspect.get_annotations(declared) if not name.startswith("_")]
        self.types: dict[str, Any] = {name: hints[name] for name in own}
        for name, kind in self.types.items():
            if kind not in _SCALARS and kind not in _ITEMS:
                raise UsageError(f"attribute {name!r} cannot be stored", expected=_KINDS, got=kind)
            if name in _RESERVED:
                raise UsageError(
                    f"{name!r} is not allowed as the name of an attribute",
                    fix=f"choose a name other than {', '.join(sorted(_RESERVED))}",
                )
        self.signature = inspect.Signature(
            [
                inspect.Parameter(
                    name,
                    inspect.Parameter.POSITIONAL_OR_KEYWORD,
                    default=self._default(declared, name),
                )
                for name in self.types
            ]
        )

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Returns a checked value for every attribute, defaults included.

        Args:
            args, kwargs: arguments of the plugin's constructor.

        Raises:
            UsageError: an argument that is missing, unknown, or of another type.
        """
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise UsageError(str(error), expected=self.signature) from error
        bound.apply_defaults()
        return {name: self._checked(name, value) for name, value in bound.arguments.items()}

    def _default(self, declared: type, name: str) -> Any:
        value = declared.__dict__.get(name, inspect.Parameter.empty)
        return value if value is inspect.Parameter.empty else self._checked(name, value)

    def _checked(self, name: str, value: Any) -> Any:
        """Returns `value` as the declared type; an int is converted where a float is declared."""
        kind = self.types[name]
        if kind not in _ITEMS:
            checked = _scalar(kind, value)
        elif isinstance(value, (tuple, list)):
            items = [_scalar(_ITEMS[kind], item) for item in value]
            checked = None if None in items else tuple(items)
        else:
            checked = None
        if checked is None:
            raise UsageError(
                f"attribute {name!r} has the wrong type",
                expected=getattr(kind, "__name__", kind) if kind in _SCALARS else kind,
                got=repr(value),
            )
        return checked


def _scalar(kind: Any, value: Any) -> Any:
    """Returns `value` as `kind`; ``None`` for another type, or what JSON readers refuse: floats
    that are not finite, integers beyond 64 bits, text with half of a surrogate pair."""
    if type(value) is int and not -(2**63) <= value < 2**64:
        return None
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind or (kind is float and not math.isfinite(value)):
        return None
    if kind is str and value != value.encode(errors="ignore").decode():
        return None
    return value


def to_json(values: Mapping[str, Any]) -> str:
    """Returns `values` as JSON; equal values give equal text."""
    return json.dumps(dict(values), sort_keys=True, separators=(",", ":"))

"""A plugin's attributes: typed, checked, and stored in the engine as JSON."""

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
_RESERVED = {"outputs", "stream", "tactic"}  # TensorRT calls its own arguments so


class Attributes:
    """The attributes of one plugin class, in order.

    Attributes:
        types: of each, by name: ``bool``, ``int``, ``float``, ``str``, ``tuple[int, ...]`` or
            ``tuple[float, ...]``.
        signature: of the constructor.
    """

    def __init__(self, declared: type, plugin: str) -> None:
        self._plugin = plugin
        try:
            hints = typing.get_type_hints(declared)
        except NameError as error:
            raise self._bad("an annotation that cannot be read", got=error) from error
        own = [name for name in inspect.get_annotations(declared) if not name.startswith("_")]
        self.types = {name: hints[name] for name in own}
        for name, kind in self.types.items():
            if kind not in _SCALARS and kind not in _ITEMS:
                raise self._bad(f"attribute {name!r} cannot be stored", expected=_KINDS, got=kind)
            if name in _RESERVED:
                raise self._bad(f"{name!r} is not allowed as the name of an attribute")
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
        """A value for each, checked.

        Raises:
            UsageError: one that is missing, unknown, or of another type.
        """
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise self._bad(str(error), expected=self.signature) from error
        bound.apply_defaults()
        return {name: self._checked(name, value) for name, value in bound.arguments.items()}

    def _default(self, declared: type, name: str) -> Any:
        value = declared.__dict__.get(name, inspect.Parameter.empty)
        return value if value is inspect.Parameter.empty else self._checked(name, value)

    def _checked(self, name: str, value: Any) -> Any:
        """`value` as its declared type; an int is fine where a float is wanted."""
        kind = self.types[name]
        if kind not in _ITEMS:
            checked = _scalar(kind, value)
        elif isinstance(value, (tuple, list)):
            items = [_scalar(_ITEMS[kind], item) for item in value]
            checked = None if None in items else tuple(items)
        else:
            checked = None
        if checked is None:
            raise self._bad(
                f"attribute {name!r} has the wrong type",
                expected=getattr(kind, "__name__", kind) if kind in _SCALARS else kind,
                got=repr(value),
            )
        return checked

    def _bad(self, problem: str, **details: object) -> UsageError:
        return UsageError(problem, module=self._plugin, **details)  # type: ignore[arg-type]


_KINDS = "bool, int, float, str, tuple[int, ...] or tuple[float, ...]"


def _scalar(kind: Any, value: Any) -> Any:
    """`value` as `kind`; ``None`` where it is something else, or not finite."""
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not kind or (kind is float and not math.isfinite(value)):
        return None
    return value


def to_json(values: Mapping[str, Any]) -> str:
    """`values` as text, the same for the same values."""
    return json.dumps(dict(values), sort_keys=True, separators=(",", ":"))

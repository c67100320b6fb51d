"""The steps that lead from the keys of a state_dict to the weights of an engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

KEY, RANGE, VIEW, LOST = "key", "range", "view", "lost"
"""Steps that are no operation: the values of a key, the range of a tensor in a calibration, other
sizes and strides over the memory of a step, and what nobody can compute again."""


@dataclass(frozen=True)
class Step:
    """One value.

    Attributes:
        op: :data:`KEY`, :data:`RANGE`, :data:`VIEW`, :data:`LOST`, or a name in
            :data:`trtnet.recipes.operations.OPERATIONS`, or one of
            :mod:`trtnet.recipes.torch_operations` after ``aten.``.
        of: the numbers of the steps that it is computed of; ``None`` for one that is left out.
        options: further arguments. Of a key its ``key`` and of a range its ``tensor``; of a view
            the ``dtype``, ``shape``, ``strides`` and ``offset``, in bytes; of what is lost why.
    """

    op: str
    of: tuple[int | None, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The step as JSON values."""
        return {"op": self.op, "of": list(self.of), "options": dict(self.options)}


@dataclass(frozen=True)
class Placed:
    """A weight of a network.

    Attributes:
        layer: the name of its layer.
        role: which of the layer's weights: ``kernel``, ``bias``, ``weights``, ``scale``, ``shift``.
        step: the number of the step that has its values, before they get their type.
        dtype: its element type.
        name: what it is called in a message: the parameter in its module.
    """

    layer: str
    role: str
    step: int
    dtype: str
    name: str = ""

    def as_json(self) -> dict[str, Any]:
        """The weight as JSON values."""
        return {"layer": self.layer, "role": self.role, "step": self.step, "dtype": self.dtype,
                "name": self.name}  # fmt: skip

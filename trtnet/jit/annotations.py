"""``torch.jit.annotations``: types for annotations."""

from typing import Any, Dict, List, Optional, Tuple, TypeVar, Union  # noqa: UP035  (PyTorch's)

__all__ = [
    "Any",
    "BroadcastingList1",
    "BroadcastingList2",
    "BroadcastingList3",
    "Dict",
    "List",
    "Optional",
    "Tuple",
    "Union",
]

T = TypeVar("T")
BroadcastingList1 = list[T]
BroadcastingList2 = list[T]
BroadcastingList3 = list[T]

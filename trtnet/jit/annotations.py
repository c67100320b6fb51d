"""``torch.jit.annotations``: types for annotations."""

from typing import TypeVar

T = TypeVar("T")
BroadcastingList1 = list[T]
BroadcastingList2 = list[T]
BroadcastingList3 = list[T]

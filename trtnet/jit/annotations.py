"""``torch.jit.annotations``: types for annotations."""

from typing import Any

BroadcastingList1 = BroadcastingList2 = BroadcastingList3 = list[Any]

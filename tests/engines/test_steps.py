"""When the steps of an execution capture a CUDA graph; a device and an engine are imitated."""

from __future__ import annotations

from typing import Any

import pytest

from trtnet.building.axes import AxisRules
from trtnet.building.profiles import Shapes
from trtnet.engines.device import CpuDevice
from trtnet.engines.protocol import Binding, CaptureError
from trtnet.engines.signature import Signature
from trtnet.engines.slot import ExecutionSlot
from trtnet.engines.steps import Steps

SHAPE = (2, 3)
BINDINGS = tuple(Binding(name, "float32", SHAPE, name == "x", False) for name in "xy")
PROFILE = {"x": Shapes(SHAPE, SHAPE, SHAPE)}


class Device(CpuDevice):
    """Says that it is a GPU."""

    kind = "cuda"


class Context:
    """Notes what it is asked for; `refuses` to be captured."""

    runs_aside = captures_at_once = False
    is_standalone = True
    refuses = False

    def __init__(self) -> None:
        self.done: list[str] = []

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> None: ...

    def set_tensor_address(self, name: str, address: int) -> None: ...

    def output_shapes(self) -> dict[str, tuple[int, ...]]:
        return {"y": SHAPE}

    def execute(self, stream: int) -> None:
        self.done.append("executed")

    def capture(self, stream: int) -> Context:
        if self.refuses:
            raise CaptureError("not this one")
        self.done.append("captured")
        return self

    def launch(self, stream: int) -> None:
        self.done.append("launched")

    def close(self) -> None: ...


class Quick(Context):
    """Needs no execution before it is captured."""

    captures_at_once = True


class Engine:
    """Of one context."""

    bindings, profiles = BINDINGS, (PROFILE,)

    def __init__(self, context: Context) -> None:
        self.context = context

    def create_context(self, profile: int) -> Context:
        return self.context


def bound(context: Context, graphs: int = 1) -> list[str]:
    """What `context` is asked for while shapes are bound."""
    engine: Any = Engine(context)
    slot = ExecutionSlot(engine, Device(), graphs)
    steps = Steps(slot, BINDINGS, Signature(BINDINGS, (PROFILE,), AxisRules.stated({}, {"x": 2})))
    steps.bind({"x": SHAPE})
    assert steps.is_captured == ("captured" in context.done)
    slot.close()
    return context.done


@pytest.mark.parametrize(
    ("kind", "graphs", "done"),
    [
        (Context, 1, ["executed", "captured", "launched"]),
        (Quick, 1, ["captured", "launched", "launched"]),
        (Context, 0, ["executed", "executed"]),
        (Quick, 0, ["executed", "executed"]),
    ],
)
def test_a_backend_that_can_be_captured_at_once_does_not_execute_before(
    kind: type[Context], graphs: int, done: list[str]
) -> None:
    """The torch backend's first execution may take several times the memory."""
    assert bound(kind(), graphs) == done


def test_what_cannot_be_captured_is_executed() -> None:
    context = Quick()
    context.refuses = True
    assert bound(context) == ["executed", "executed"]

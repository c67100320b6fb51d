"""What a sidecar says about refitting: the keys of the state_dict that the engine was built of, and
how its weights come from them."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from trtnet.recipes.steps import Placed, Step

_Size = Annotated[int, Meta(ge=0, le=2**40)]
_Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]


class StatedKey(msgspec.Struct, frozen=True):
    """One key of the state_dict.

    Attributes:
        shape, dtype: of its values when the network was defined.
        sha256: of their bytes; ``None`` where there were none.
        strides: in bytes, where the values did not follow each other in C order.
        optional: whether a state_dict may leave it out.
        tied: the step that has its values, where another key owns the memory.
        used: whether something in the engine comes from it.
        rounds: whether values of a wider type are rounded to `dtype`, as a parameter of PyTorch
            does; one of trtnet takes the type of the values that it gets.
        lost: why what comes from it cannot be computed again; ``None`` where it can.
    """

    shape: tuple[_Size, ...]
    dtype: str
    sha256: _Sha256 | None = None
    strides: tuple[int, ...] | None = None
    optional: bool = False
    tied: _Size | None = None
    used: bool = True
    rounds: bool = False
    lost: str | None = None


class StatedStep(msgspec.Struct, frozen=True):
    """See :class:`trtnet.recipes.steps.Step`."""

    op: str
    of: tuple[_Size | None, ...] = ()
    options: dict[str, Any] = {}


class StatedWeight(msgspec.Struct, frozen=True):
    """See :class:`trtnet.recipes.steps.Placed`; `shape` as the layer has it, `weights_name` what a
    builder of TensorRT knows it by, and whether it may be replaced."""

    layer: str
    role: str
    step: _Size
    dtype: str
    shape: tuple[_Size, ...]
    name: str = ""
    weights_name: str = ""
    refittable: bool = True


class StatedRefit(msgspec.Struct, frozen=True):
    """The entry ``refit`` of a sidecar.

    Attributes:
        keys: of the state_dict.
        ignored: patterns of further keys that a state_dict may have.
        roots: what the keys of each model that the network was made of begin with.
        steps: each computed of earlier ones.
        weights: of the engine, that come from keys or from a calibration.
        stripped: whether the engine is without those.
    """

    keys: dict[str, StatedKey]
    steps: list[StatedStep]
    weights: list[StatedWeight]
    ignored: list[str] = []
    roots: list[str] = []
    stripped: bool = False

    def __post_init__(self) -> None:
        for number, step in enumerate(self.steps):
            if any(source is not None and source >= number for source in step.of):
                raise ValueError("each step is computed of earlier ones")
        count = len(self.steps)
        tied = [key.tied for key in self.keys.values() if key.tied is not None]
        if any(number >= count for number in [*tied, *(weight.step for weight in self.weights)]):
            raise ValueError("a weight comes from one of the steps")
        if any(s.op == "key" and s.options.get("key") not in self.keys for s in self.steps):
            raise ValueError("a step takes one of the keys")

    def plain_steps(self) -> list[Step]:
        """The steps as :mod:`trtnet.recipes` has them."""
        return [Step(step.op, step.of, step.options) for step in self.steps]

    def placed(self) -> list[Placed]:
        """The weights as :mod:`trtnet.recipes` has them."""
        return [Placed(w.layer, w.role, w.step, w.dtype, w.name) for w in self.weights]

"""What follows on a product or a convolution, and is computed before its result is stored."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Activation:
    """A function of each element.

    Attributes:
        kind: ``none``, ``relu``, ``clip``, ``silu``, ``gelu``, ``gelu_tanh``, ``sigmoid``,
            ``hard_sigmoid`` or ``hard_swish``.
        low, high: the limits of ``clip``; the factor and the term of ``hard_sigmoid`` and of the
            hard sigmoid inside of ``hard_swish``.
    """

    kind: str = "none"
    low: float = 0.0
    high: float = 0.0

    def __bool__(self) -> bool:
        return self.kind != "none"


NOTHING = Activation()


@dataclass(frozen=True)
class Epilogue:
    """``last(first(x + bias) * factor + other)``, in float32 and rounded once.

    The bias and the factor have one value per channel, `other` one per element.

    Attributes:
        first: before the factor and the sum.
        last: after them.
        has_factor, has_other: whether there are a factor and another tensor.
    """

    first: Activation = NOTHING
    last: Activation = NOTHING
    has_factor: bool = False
    has_other: bool = False

    def __bool__(self) -> bool:
        return bool(self.first) or bool(self.last) or self.has_factor or self.has_other

    @property
    def rest(self) -> Epilogue:
        """What comes after the first activation."""
        return replace(self, first=NOTHING)

    def __str__(self) -> str:
        parts = [_words(self.first)] if self.first else []
        parts += ["factor"] if self.has_factor else []
        parts += ["add"] if self.has_other else []
        parts += [_words(self.last)] if self.last else []
        return "+".join(parts) or "none"


def _words(activation: Activation) -> str:
    if activation.kind in ("clip", "hard_sigmoid", "hard_swish"):
        return f"{activation.kind}({activation.low:g},{activation.high:g})"
    return activation.kind

"""Functions that do nothing at inference."""

from __future__ import annotations

from trtnet.errors import UnsupportedError
from trtnet.ops.operator import operator
from trtnet.tensor import Tensor


@operator(methods=())
def dropout(input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
    """``torch.nn.functional.dropout`` at inference: `input` itself. `training` is ``False`` by
    default, unlike PyTorch's.

    Raises:
        UnsupportedError: `training`, with `p` other than 0: it draws random numbers.
    """
    if training and p:
        raise UnsupportedError(
            "dropout: training=True draws random numbers; an engine gives the same result for the "
            "same input",
            got=f"p={p}, training=True",
            fix="pass training=self.training, which is False in eval()",
        )
    return input

"""What is known of the functions that compiled modules call: what lowers them, and what they make
of NaN."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from trtnet.engines.openvino import emitters
from trtnet.engines.openvino.lowering import Rules
from trtnet.reference import convolution, elementwise, index, linear, pooling, quantize


def _may_divide_by_zero(a: Any, b: Any) -> bool:
    return not (isinstance(b, np.ndarray) and b.all())


def _is_no_product(x: Any, exponent: Any) -> bool:
    """Whether a power is anything but a product of a few factors."""
    return not (isinstance(exponent, np.ndarray) and np.isin(exponent, (0, 1, 2, 3)).all())


_MAKE_NAN: dict[Any, Callable[..., bool]] = {
    torch.div: _may_divide_by_zero,
    torch.pow: _is_no_product,
    **dict.fromkeys((torch.exp, torch.log, torch.sqrt, torch.reciprocal), lambda *args: True),
}
_LOSE_NAN = {  # a NaN becomes a number, or a place among others
    *(torch.relu, torch.relu_, torch.maximum, torch.minimum, torch.amax, torch.amin),
    *(torch.eq, torch.gt, torch.lt, torch.exp, torch.softmax),
    *(F.elu, F.leaky_relu, F.max_pool2d, F.max_pool3d),
    *(elementwise.clip, elementwise.hard_sigmoid, elementwise.leaky),
    *(pooling.max_pool, quantize.to_quantized, index.select_k),
}

_PRODUCTS = {
    *(F.conv2d, F.conv3d, convolution.padded_convolution, F.conv_transpose2d, F.conv_transpose3d),
    *(torch.matmul, linear.multiply),
}

RULES = Rules(
    emitters={
        **{("call_function", function): emit for function, emit in emitters.FUNCTIONS.items()},
        **{("call_method", name): emit for name, emit in emitters.METHODS.items()},
    },
    make_nan=_MAKE_NAN,
    lose_nan=_LOSE_NAN,
    products=_PRODUCTS,
)

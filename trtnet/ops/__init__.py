"""Operations on tensors, under PyTorch's names: ``trtnet.cat`` is ``torch.cat``.

Each takes :class:`trtnet.Tensor` (and numbers, arrays or Parameters beside them), adds layers to
the tensor's network, and returns a Tensor.
"""

from trtnet.ops.activation import (
    elu,
    gelu,
    hardsigmoid,
    hardswish,
    hardtanh,
    leaky_relu,
    mish,
    prelu,
    relu,
    relu6,
    selu,
    sigmoid,
    silu,
    softplus,
    softsign,
    tanh,
)
from trtnet.ops.elementwise import (
    abs,
    add,
    ceil,
    clamp,
    cos,
    div,
    eq,
    erf,
    exp,
    floor,
    floor_divide,
    ge,
    gt,
    le,
    log,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    lt,
    maximum,
    minimum,
    mul,
    ne,
    neg,
    pow,
    reciprocal,
    remainder,
    round,
    rsqrt,
    sign,
    sin,
    sqrt,
    square,
    sub,
    where,
)
from trtnet.ops.indexing import gather, getitem, index_select
from trtnet.ops.linalg import einsum, matmul
from trtnet.ops.pieces import cat, chunk, narrow, pad, roll, split, stack, unbind
from trtnet.ops.reduction import (
    amax,
    amin,
    argmax,
    argmin,
    log_softmax,
    max,
    mean,
    min,
    prod,
    softmax,
    sum,
    topk,
)
from trtnet.ops.shape import (
    expand,
    flatten,
    permute,
    reshape,
    squeeze,
    transpose,
    unflatten,
    unsqueeze,
)

__all__ = [
    "abs", "add", "amax", "amin", "argmax", "argmin", "cat", "ceil", "chunk", "clamp", "cos",
    "div", "einsum", "elu", "eq", "erf", "exp", "expand", "flatten", "floor", "floor_divide",
    "gather", "ge", "gelu", "getitem", "gt", "hardsigmoid", "hardswish", "hardtanh",
    "index_select", "le", "leaky_relu", "log", "log_softmax", "logical_and", "logical_not",
    "logical_or", "logical_xor", "lt", "matmul", "max", "maximum", "mean", "min", "minimum",
    "mish", "mul", "narrow", "ne", "neg", "pad", "permute", "pow", "prelu", "prod", "reciprocal",
    "relu", "relu6", "remainder", "reshape", "roll", "round", "rsqrt", "selu", "sigmoid", "sign",
    "silu", "sin", "softmax", "softplus", "softsign", "split", "sqrt", "square", "squeeze",
    "stack", "sub", "sum", "tanh", "topk", "transpose", "unbind", "unflatten", "unsqueeze",
    "where",
]  # fmt: skip

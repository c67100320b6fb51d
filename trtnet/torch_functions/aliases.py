"""Names under which PyTorch has a function that trtnet has under another one."""

from collections.abc import Mapping

ALIASES: Mapping[str, str] = {
    # Python's operators on a real torch.Tensor at the left
    "__add__": "add",
    "__radd__": "add",
    "__sub__": "sub",
    "__rsub__": "rsub",
    "__mul__": "mul",
    "__rmul__": "mul",
    "__truediv__": "div",
    "__rdiv__": "__rtruediv__",
    "__matmul__": "matmul",
    "__eq__": "eq",
    "__ne__": "ne",
    # further names of the same function
    "absolute": "abs",
    "clip": "clamp",
    "concat": "cat",
    "concatenate": "cat",
    "divide": "div",
    "greater": "gt",
    "greater_equal": "ge",
    "less": "lt",
    "less_equal": "le",
    "multiply": "mul",
    "negative": "neg",
    "not_equal": "ne",
    "subtract": "sub",
    "true_divide": "div",
}

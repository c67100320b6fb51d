"""Matrix products."""

from __future__ import annotations

import torch
from torch import Tensor

from trtnet.reference.layer_context import LayerContext, TorchCall


def matrix_multiply(layer: LayerContext) -> TorchCall:
    """MATRIX_MULTIPLY: the product of two matrices, or batches of them."""
    a, b = layer.inputs
    ops = (layer["op0"], layer["op1"])
    return (
        TorchCall(torch.matmul, (a, b))
        if ops == ("NONE", "NONE")
        else TorchCall(multiply, (a, b, *ops))
    )


def multiply(a: Tensor, b: Tensor, op0: str, op1: str) -> Tensor:
    """``op0(a) @ op1(b)``; an operand of op VECTOR is a collection of vectors."""
    left = a.unsqueeze(-2) if op0 == "VECTOR" else a.transpose(-1, -2) if op0 == "TRANSPOSE" else a
    right = b.unsqueeze(-1) if op1 == "VECTOR" else b.transpose(-1, -2) if op1 == "TRANSPOSE" else b
    product = torch.matmul(left, right)
    if op1 == "VECTOR":
        product = product.squeeze(-1)
    return product.squeeze(-1 if op1 == "VECTOR" else -2) if op0 == "VECTOR" else product


def einsum(layer: LayerContext) -> TorchCall:
    """EINSUM: products and sums in Einstein's notation."""
    return TorchCall(torch.einsum, (layer["equation"], *layer.inputs))


OPERATIONS = {"EINSUM": einsum, "MATRIX_MULTIPLY": matrix_multiply}

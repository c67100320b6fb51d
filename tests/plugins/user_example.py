"""A plugin as a user declares it, in a file of their own."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

import trtnet
from trtnet.nn import functional as F
from trtnet.plugins import cdiv, triton_kernel


@triton.jit
def leaky_gate_kernel(x, gate, n, y, slope: tl.constexpr, block: tl.constexpr):
    place = tl.program_id(0) * block + tl.arange(0, block)
    value = tl.load(x + place, place < n).to(tl.float32)
    opening = tl.sigmoid(tl.load(gate + place, place < n).to(tl.float32))
    leaky = tl.where(value > 0, value, value * slope)
    tl.store(y + place, (leaky * opening).to(y.dtype.element_ty), place < n)


@trtnet.plugin("tests::leaky_gate")
class LeakyGate:
    slope: float = 0.1

    formats = [("fp32", "fp32", "->", "fp32"), ("fp16", "fp16", "->", "fp16")]  # noqa: RUF012
    kernel = triton_kernel(
        leaky_gate_kernel,
        grid=lambda self, x, gate, y: [cdiv(y.numel, 1024)],
        scalars=lambda self, x, gate, y: [y.numel],
        constants={"block": 1024},
    )

    def outputs(self, x, gate):
        return x

    def reference(self, x, gate):
        return torch.nn.functional.leaky_relu(x, self.slope) * torch.sigmoid(gate)

    def native(self, x, gate):
        return F.leaky_relu(x, self.slope) * F.sigmoid(gate)

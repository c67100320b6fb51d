"""Blocks of the YOLO lines in PyTorch: what they are compared to."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F


class Conv(nn.Module):
    """A convolution with BatchNorm; SiLU where `act`."""

    def __init__(
        self, cin: int, cout: int, k: int = 1, s: int = 1, g: int = 1, act: bool = True
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, k, s, padding=k // 2, groups=g, bias=False)
        self.bn: nn.Module = nn.BatchNorm2d(cout, eps=1e-3, momentum=0.03)
        self.act = nn.SiLU() if act else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.bn(self.conv(x)))

    def fuse(self) -> None:
        """A bias in place of BatchNorm, with values of its own."""
        bias = torch.empty(self.conv.out_channels, dtype=self.conv.weight.dtype)
        self.conv.bias = nn.Parameter(nn.init.uniform_(bias, -0.1, 0.1))
        self.bn = nn.Identity()


class RepConv(nn.Module):
    """Two convolutions, which are added."""

    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        self.act = nn.SiLU()
        self.conv1, self.conv2 = Conv(cin, cout, 3, act=False), Conv(cin, cout, act=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(torch.add(self.conv1(x), self.conv2(x)))


class Bottleneck(nn.Module):
    """Two 3×3 convolutions; where `add`, their input is added."""

    def __init__(self, c: int, inside: int, add: bool) -> None:
        super().__init__()
        self.cv1, self.cv2, self.add = Conv(c, inside, 3), Conv(inside, c, 3), add

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.cv2(self.cv1(x)) + (x if self.add else 0)


class Chain(nn.Module):
    """What a 1×1 convolution gives and what each of `blocks` makes of its last `half` channels."""

    def __init__(self, cin: int, cout: int, half: int, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.cv1, self.cv2 = Conv(cin, 2 * half), Conv((len(blocks) + 2) * half, cout)
        self.m, self.last = nn.ModuleList(blocks), half

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.cv1(x)
        for block in self.m:
            y = torch.cat([y, block(y[:, -self.last :])], 1)
        return self.cv2(y)


class C3k(nn.Module):
    """Two bottlenecks on one half of the channels, beside the other half."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.cv1, self.cv2, self.cv3 = Conv(c, c // 2), Conv(c, c // 2), Conv(c // 2 * 2, c)
        self.m = nn.Sequential(*[Bottleneck(c // 2, c // 2, add=True) for _ in range(2)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.cv3(torch.cat((self.m(self.cv1(x)), self.cv2(x)), dim=1))


class SPPF(nn.Module):
    """Pools of 5, 9 and 13 cells: those of 5 twice and three times."""

    def __init__(self, c: int, add: bool) -> None:
        super().__init__()
        self.cv1, self.cv2, self.add = Conv(c, c // 2), Conv(c // 2 * 4, c), add
        self.m = nn.Identity()  # a module without parameters, which is not called

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.cv1(x)
        pools = [F.max_pool2d(y, edge, 1, edge // 2) for edge in (5, 9, 13)]
        return self.cv2(torch.cat([y, *pools], 1)) + (x if self.add else 0)


class Attention(nn.Module):
    """Each cell's weighted sum of the values of all, and a convolution of the values."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.heads = max(c // 64, 1)
        self.qkv, self.proj = Conv(c, 2 * c, act=False), Conv(c, c, act=False)
        self.pe = Conv(c, c, 3, g=c, act=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        each = self.qkv(x).flatten(2).unflatten(1, (self.heads, -1)).transpose(2, 3)
        wide = each.shape[-1] // 2  # a quarter for queries, a quarter for keys, the rest for values
        q, k, v = each[..., : wide // 2], each[..., wide // 2 : wide], each[..., wide:]
        seen = F.scaled_dot_product_attention(q, k, v)
        seen, v = (t.transpose(2, 3).flatten(1, 2).unflatten(2, x.shape[2:]) for t in (seen, v))
        return self.proj(seen + self.pe(v))


class PSABlock(nn.Module):
    """Attention and two 1×1 convolutions, each with its input added."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.attn = Attention(c)
        self.ffn = nn.Sequential(Conv(c, 2 * c), Conv(2 * c, c, act=False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.attn(x) + x
        return self.ffn(x) + x


class C2PSA(nn.Module):
    """Blocks of attention on the second half of the channels."""

    def __init__(self, c: int, count: int) -> None:
        super().__init__()
        self.cv1, self.cv2 = Conv(c, c), Conv(c, c)
        self.m = nn.Sequential(*[PSABlock(c // 2) for _ in range(count)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second = self.cv1(x).tensor_split(2, dim=1)
        return self.cv2(torch.cat((first, self.m(second)), 1))


class DFL(nn.Module):
    """A 1×1 convolution of probabilities, whose weights are 0, 1, …"""

    def __init__(self, bins: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(bins, 1, 1, bias=False)
        self.conv.weight = nn.Parameter(
            torch.arange(float(bins)).reshape(1, bins, 1, 1), requires_grad=False
        )

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        """(B, N, 4) of (B, N, 4·bins)."""
        bins = self.conv.in_channels
        chances = logits.unflatten(2, (4, bins)).permute(0, 3, 2, 1).softmax(1)
        return F.conv2d(chances, self.conv.weight.to(chances))[:, 0].transpose(1, 2)

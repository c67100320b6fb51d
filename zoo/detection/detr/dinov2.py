"""DINOv2 whose layers mostly attend within windows of the image, the backbone of RF-DETR.

Oquab et al., DINOv2: Learning Robust Visual Features without Supervision,
https://arxiv.org/abs/2304.07193; the windows are those of Robinson et al., RF-DETR: Neural
Architecture Search for Real-Time Detection Transformers, https://arxiv.org/abs/2511.09554.
Parameters have the names of transformers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trtnet import nn, ops
from trtnet.nn import functional as F
from trtnet.zoo.detection.detr.layers import MLP, SelfAttention, attended

if TYPE_CHECKING:
    from trtnet.tensor import Tensor

CHANNELS, HEADS, LAYERS = 384, 6, 12  # of its small form, which all published RF-DETRs here have
_EPS = 1e-6  # of every LayerNorm


class PatchEmbeddings(nn.Module):
    """A vector for each patch of an image, (B, N, C), row by row."""

    def __init__(self, patch: int) -> None:
        super().__init__()
        self.projection = nn.Conv2d(3, CHANNELS, patch, patch)

    def forward(self, images: Tensor) -> Tensor:
        return self.projection(images).flatten(2).transpose(1, 2)


class Embeddings(nn.Module):
    """Patches with their positions, each window behind a token of its own:
    (B·windows², 1 + patches of a window, C).

    Args:
        positions: patches along an edge that there are position embeddings of; for other images
            they are interpolated.
    """

    def __init__(self, patch: int, positions: int, windows: int) -> None:
        super().__init__()
        self.patch, self.positions, self.windows = patch, positions, windows
        self.cls_token = nn.Parameter.empty((1, 1, CHANNELS))
        self.mask_token = nn.Parameter.empty((1, CHANNELS))  # of training alone
        self.position_embeddings = nn.Parameter.empty((1, positions**2 + 1, CHANNELS))
        self.patch_embeddings = PatchEmbeddings(patch)
        self.dropout = nn.Dropout()

    def forward(self, images: Tensor) -> Tensor:
        rows, columns = (size // self.patch for size in images.shape[2:])
        patches, count = self.patch_embeddings(images), self.windows
        of_token, of_patches = self._positions(patches, rows, columns)
        patches = patches + of_patches
        split = patches.reshape(-1, rows // count, count, columns // count, CHANNELS)
        split = split.permute(0, 2, 1, 3, 4).reshape(-1, rows * columns // count**2, CHANNELS)
        token = patches.new_tensor(self.cls_token) + of_token
        tokens = token.expand(split.shape[0], -1, -1)
        return self.dropout(ops.cat([tokens, split], 1))

    def _positions(self, like: Tensor, rows: int, columns: int) -> tuple[Tensor, Tensor]:
        """The embeddings of the token, (1, 1, C), and of the patches, (1, N, C); interpolated in
        float32."""
        known = like.network.constant(self.position_embeddings)
        of_token, of_patches = known[:, :1], known[:, 1:]
        if (rows, columns) != (self.positions, self.positions):
            grid = of_patches.reshape(1, self.positions, self.positions, CHANNELS)
            grid = F.interpolate(grid.permute(0, 3, 1, 2), (rows, columns), mode="bicubic",
                                 align_corners=False, antialias=True)  # fmt: skip
            of_patches = grid.flatten(2).transpose(1, 2)
        return of_token.to(like.dtype), of_patches.to(like.dtype)


class Attention(SelfAttention):
    """Attention of (B, N, C) to itself, without positions."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return attended(self, self.q_proj(x), self.k_proj(x), self.v_proj(x))


class LayerScale(nn.Module):
    """A factor for each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.lambda1 = nn.Parameter.empty((CHANNELS,))

    def forward(self, x: Tensor) -> Tensor:
        return x * x.new_tensor(self.lambda1)


class Layer(nn.Module):
    """Attention and two linear layers, each behind a norm and beside a shortcut.

    Args:
        joined: how many windows, one behind the other, attend to each other.
    """

    def __init__(self, joined: int) -> None:
        super().__init__()
        self.joined = joined
        self.norm1 = nn.LayerNorm(CHANNELS, eps=_EPS)
        self.attention = Attention(CHANNELS, HEADS)
        self.layer_scale1 = LayerScale()
        self.drop_path = nn.Identity()
        self.norm2 = nn.LayerNorm(CHANNELS, eps=_EPS)
        self.mlp = MLP(CHANNELS, 4 * CHANNELS, nn.GELU)
        self.layer_scale2 = LayerScale()

    def forward(self, x: Tensor) -> Tensor:
        windows, size, channels = x.shape
        together = x.reshape(-1, self.joined * size, channels) if self.joined > 1 else x
        found = self.attention(self.norm1(together)).reshape(windows, size, channels)
        x = self.drop_path(self.layer_scale1(found)) + x
        return self.drop_path(self.layer_scale2(self.mlp(self.norm2(x)))) + x


class Encoder(nn.Module):
    """The layers where transformers has them."""

    def __init__(self, windows: int, taken: Sequence[int]) -> None:
        super().__init__()
        self.layer = nn.ModuleList(
            [Layer(windows**2 if index in taken else 1) for index in range(LAYERS)]
        )


class WindowedDinov2(nn.Module):
    """Input (B, 3, H, W), height and width fixed multiples of `patch` × `windows`; gives the
    results (B, C, H / patch, W / patch) of the layers that are `taken`, counted from 1. The layer
    behind each of these attends to all windows, the others to their own. Layers behind the last one
    taken have parameters alone."""

    def __init__(self, patch: int, positions: int, windows: int, taken: Sequence[int]) -> None:
        super().__init__()
        self.taken = tuple(taken)
        self.embeddings = Embeddings(patch, positions, windows)
        self.encoder = Encoder(windows, taken)
        self.layernorm = nn.LayerNorm(CHANNELS, eps=_EPS)

    def forward(self, images: Tensor) -> list[Tensor]:
        tokens, found = self.embeddings(images), []
        for number, layer in enumerate(self.encoder.layer[: max(self.taken)], 1):
            tokens = layer(tokens)
            if number in self.taken:
                found.append(self._image(self.layernorm(tokens)[:, 1:], images))
        return found

    def _image(self, patches: Tensor, images: Tensor) -> Tensor:
        """The patches of all windows (B·windows², N, C) where they lie in the image."""
        count = self.embeddings.windows
        rows, columns = (size // self.embeddings.patch for size in images.shape[2:])
        split = patches.reshape(-1, count, count, rows // count, columns // count, CHANNELS)
        return split.permute(0, 5, 1, 3, 2, 4).reshape(-1, CHANNELS, rows, columns)

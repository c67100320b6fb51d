"""Vision Transformer, in torchvision's form.

Dosovitskiy et al., An Image is Worth 16x16 Words, https://arxiv.org/abs/2010.11929.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trtnet import nn, ops
from trtnet.errors import ShapeError
from trtnet.tensor import same_sizes
from trtnet.zoo.blocks import MLP
from trtnet.zoo.registry import register

if TYPE_CHECKING:
    from trtnet.tensor import Tensor

_EPS = 1e-6  # of every LayerNorm


class EncoderBlock(nn.Module):
    """Self-attention and a two-layer perceptron, each after a LayerNorm and with a shortcut."""

    def __init__(self, hidden_dim: int, num_heads: int, mlp_dim: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(hidden_dim, eps=_EPS)
        self.self_attention = nn.MultiheadAttention(hidden_dim, num_heads, batch_first=True)
        self.dropout = nn.Dropout()
        self.ln_2 = nn.LayerNorm(hidden_dim, eps=_EPS)
        self.mlp = MLP(hidden_dim, mlp_dim)

    def forward(self, x: Tensor) -> Tensor:
        y = self.ln_1(x)
        y, _ = self.self_attention(y, y, y, need_weights=False)
        x = x + self.dropout(y)
        return x + self.mlp(self.ln_2(x))


class Encoder(nn.Module):
    """Adds the positions, runs the blocks; (N, length, hidden_dim) to the same shape."""

    def __init__(
        self, length: int, num_layers: int, hidden_dim: int, num_heads: int, mlp_dim: int
    ) -> None:
        super().__init__()
        self.pos_embedding = nn.Parameter.empty((1, length, hidden_dim))
        self.dropout = nn.Dropout()
        self.layers = nn.Sequential(
            {
                f"encoder_layer_{index}": EncoderBlock(hidden_dim, num_heads, mlp_dim)
                for index in range(num_layers)
            }
        )
        self.ln = nn.LayerNorm(hidden_dim, eps=_EPS)

    def forward(self, x: Tensor) -> Tensor:
        x = self.dropout(x + x.new_tensor(self.pos_embedding))
        return self.ln(self.layers(x))


class VisionTransformer(nn.Module):
    """Input (N, 3, image_size, image_size); output (N, num_classes), logits.

    Raises:
        ShapeError: `image_size` is not a multiple of `patch_size`; when called, an input of
            another size.
    """

    def __init__(
        self,
        patch_size: int,
        num_layers: int,
        hidden_dim: int,
        num_heads: int,
        mlp_dim: int,
        num_classes: int = 1000,
        image_size: int = 224,
    ) -> None:
        super().__init__()
        if image_size <= 0 or image_size % patch_size:
            raise ShapeError("image_size does not fit the patches", got=image_size,
                             expected=f"a positive multiple of {patch_size}")  # fmt: skip
        self.image_size = image_size
        self.conv_proj = nn.Conv2d(3, hidden_dim, patch_size, stride=patch_size)
        self.class_token = nn.Parameter.empty((1, 1, hidden_dim))
        length = (image_size // patch_size) ** 2 + 1
        self.encoder = Encoder(length, num_layers, hidden_dim, num_heads, mlp_dim)
        self.heads = nn.Sequential({"head": nn.Linear(hidden_dim, num_classes)})

    def forward(self, x: Tensor) -> Tensor:
        size = (self.image_size, self.image_size)
        if not same_sizes(x.shape[2:], size):
            raise ShapeError("the position embedding belongs to another image size",
                             expected=f"(N, 3, {size[0]}, {size[1]})", got=repr(x),
                             fix="build the model with image_size= of the input")  # fmt: skip
        patches = self.conv_proj(x).flatten(2).transpose(1, 2)
        token = patches.new_tensor(self.class_token).expand(x.shape[0], -1, -1)
        encoded = self.encoder(ops.cat([token, patches], 1))
        return self.heads(encoded[:, 0])


@register(torchvision=True)
def vit_b_16(num_classes: int = 1000, image_size: int = 224) -> VisionTransformer:
    """ViT-B/16: patches of 16×16, 12 layers of width 768.

    Dosovitskiy et al., https://arxiv.org/abs/2010.11929.
    """
    return VisionTransformer(16, 12, 768, 12, 3072, num_classes, image_size)


@register(torchvision=True)
def vit_b_32(num_classes: int = 1000, image_size: int = 224) -> VisionTransformer:
    """ViT-B/32: patches of 32×32, 12 layers of width 768.

    Dosovitskiy et al., https://arxiv.org/abs/2010.11929.
    """
    return VisionTransformer(32, 12, 768, 12, 3072, num_classes, image_size)


@register(torchvision=True)
def vit_l_16(num_classes: int = 1000, image_size: int = 224) -> VisionTransformer:
    """ViT-L/16: patches of 16×16, 24 layers of width 1024.

    Dosovitskiy et al., https://arxiv.org/abs/2010.11929.
    """
    return VisionTransformer(16, 24, 1024, 16, 4096, num_classes, image_size)


@register(torchvision=True)
def vit_l_32(num_classes: int = 1000, image_size: int = 224) -> VisionTransformer:
    """ViT-L/32: patches of 32×32, 24 layers of width 1024.

    Dosovitskiy et al., https://arxiv.org/abs/2010.11929.
    """
    return VisionTransformer(32, 24, 1024, 16, 4096, num_classes, image_size)


@register(torchvision=True)
def vit_h_14(num_classes: int = 1000, image_size: int = 224) -> VisionTransformer:
    """ViT-H/14: patches of 14×14, 32 layers of width 1280.

    Dosovitskiy et al., https://arxiv.org/abs/2010.11929.
    """
    return VisionTransformer(14, 32, 1280, 16, 5120, num_classes, image_size)

"""EmbeddingBag; the function is in ``trtnet/ops/embedding_bag.py``."""

from __future__ import annotations

from typing import Any

from trtnet.exports import export
from trtnet.module import Module, Parameter
from trtnet.ops.arguments import require
from trtnet.ops.embedding_bag import MODES, embedding_bag, positive_index
from trtnet.tensor import Tensor


@export
class EmbeddingBag(Module):
    """``torch.nn.EmbeddingBag``. `scale_grad_by_freq` and `sparse` only matter in training;
    `device` and `dtype` have no effect.

    Raises:
        UnsupportedError: an unknown mode; `max_norm`, with which PyTorch changes the weights.
    """

    computes = "reduction"

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        require(mode in MODES, f"EmbeddingBag: no mode {mode!r}", expected=", ".join(MODES))
        require(max_norm is None, "EmbeddingBag: max_norm is not supported", got=max_norm)
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.mode, self.include_last_offset = mode, include_last_offset
        self.padding_idx = positive_index(padding_idx, num_embeddings)
        self.max_norm, self.norm_type = max_norm, norm_type
        self.scale_grad_by_freq, self.sparse = scale_grad_by_freq, sparse
        self.weight = Parameter.empty((num_embeddings, embedding_dim))

    def forward(self, input: Tensor, offsets: Any = None, per_sample_weights: Any = None) -> Tensor:
        """See :func:`trtnet.nn.functional.embedding_bag`."""
        return embedding_bag(
            input,
            self.weight,
            offsets,
            mode=self.mode,
            per_sample_weights=per_sample_weights,
            include_last_offset=self.include_last_offset,
            padding_idx=self.padding_idx,
        )

    def extra_repr(self) -> str:
        return f"{self.num_embeddings}, {self.embedding_dim}, mode={self.mode!r}"

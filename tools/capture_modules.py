"""Modules of ``tools/capture_sweep.py`` besides those of libraries: loops, top-k, sizes that follow
from other sizes, outputs whose size the data decides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Shape = tuple[int | str, ...]


@dataclass(frozen=True)
class Example:
    """A module and its inputs.

    Attributes:
        make: makes the module.
        shapes: declared for the inputs: a name for each axis of any size.
        indices: inputs are integers from 0 up to here, not float32; 0 for none.
        reason: what a session says where the module cannot be captured.
    """

    make: Callable[[], nn.Module]
    shapes: tuple[Shape, ...] = (("N", 3, "H", "W"),)
    indices: int = 0
    reason: str | None = None


class _Of(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., object]) -> None:
        super().__init__()
        self._function = function

    def forward(self, *inputs: Tensor) -> object:
        return self._function(*inputs)


class _Recurrent(nn.Module):
    """The outputs of a recurrent layer for sequences of any length."""

    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        self.inner = kind(4, 5, num_layers=2, bidirectional=True, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.inner(x)[0]
        return found


class _Hidden(nn.Module):
    """The last hidden state of a model of transformers."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.inner(x).last_hidden_state
        return found


def _best(x: Tensor) -> tuple[Tensor, Tensor]:
    values, places = x.flatten(1).topk(7)
    return values, places


def _gathered(x: Tensor) -> Tensor:
    order = x.mean(1).flatten(1).argsort(1, descending=True)[:, :5]
    return x.flatten(2).gather(2, order[:, None].expand(-1, 3, -1))


def _positions(x: Tensor) -> Tensor:
    rows = torch.arange(x.shape[2], device=x.device)[:, None]
    return x + rows + torch.linspace(0, 1, x.shape[3], device=x.device)


def _sampled(x: Tensor) -> Tensor:
    theta = torch.tensor([[1.0, 0.1, 0.0], [-0.1, 1.0, 0.2]], device=x.device)
    grid = F.affine_grid(theta.expand(x.shape[0], 2, 3), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, align_corners=False)


def _resized(x: Tensor) -> Tensor:
    half = F.interpolate(x, scale_factor=0.5, mode="bilinear")
    return F.interpolate(half, size=x.shape[2:], mode="nearest") + F.adaptive_avg_pool2d(x, 1)


def _folded(x: Tensor) -> Tensor:
    columns = F.unfold(x, 3, padding=1)
    return F.fold(columns.softmax(1), (x.shape[2], x.shape[3]), 3, padding=1)


def _bert() -> nn.Module:
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=48, max_position_embeddings=40,
    )  # fmt: skip
    return _Hidden(BertModel(config, add_pooling_layer=False))


def _gpt2() -> nn.Module:
    from transformers import GPT2Config, GPT2Model

    config = GPT2Config(vocab_size=50, n_embd=32, n_layer=2, n_head=4, n_positions=40)
    config.use_cache = False
    return _Hidden(GPT2Model(config))


_SEQUENCES: tuple[Shape, ...] = (("N", "T", 4),)
_TOKENS: tuple[Shape, ...] = (("N", 9),)
_DATA = "the data decides on the size of an output"

EXAMPLES = {
    "lstm": Example(lambda: _Recurrent(nn.LSTM), _SEQUENCES),
    "gru": Example(lambda: _Recurrent(nn.GRU), _SEQUENCES),
    "rnn": Example(lambda: _Recurrent(nn.RNN), _SEQUENCES),
    "encoder": Example(
        lambda: nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), (("N", "T", 16),)
    ),
    "topk": Example(lambda: _Of(_best)),
    "argsort and gather": Example(lambda: _Of(_gathered)),
    "cumsum": Example(lambda: _Of(lambda x: x.cumsum(2) - x.cumsum(3))),
    "positions": Example(lambda: _Of(_positions)),
    "grid_sample": Example(lambda: _Of(_sampled)),
    "interpolate": Example(lambda: _Of(_resized)),
    "unfold and fold": Example(lambda: _Of(_folded), (("N", 3, 12, 14),)),
    "triangle": Example(lambda: _Of(lambda x: x.tril() + x.triu(1) * 2)),
    "mask": Example(lambda: _Of(lambda x: torch.where(x > x.mean(), x, -x).amax((2, 3)))),
    "nonzero": Example(lambda: _Of(lambda x: (x > 0).nonzero()), reason=_DATA),
    "selection by a mask": Example(lambda: _Of(lambda x: x[x > 0.5]), reason=_DATA),
    "bert": Example(_bert, _TOKENS, indices=50),
    "gpt2": Example(_gpt2, _TOKENS, indices=50),
}

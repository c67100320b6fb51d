"""How operands of kernels lie: as rows of channels, images or vectors."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """How the operands of a product lie.

    Attributes:
        shape: of the product as rows: the last axis has its columns.
        by_columns: whether the weight is (K, N), not (N, K).
        is_image: whether the result, and what is added, is (N, C, H, W) of rows of channels.
        of_image: whether the left operand is.
    """

    shape: tuple[int, ...]
    by_columns: bool
    is_image: bool
    of_image: bool

    @property
    def words(self) -> str:
        """For a problem; the sizes are said elsewhere."""
        return f"{'KN' if self.by_columns else 'NK'} {self.of_image:d}{self.is_image:d}"

    def weight(self, given: Tensor) -> Tensor:
        """The weight as (N, K)."""
        columns = self.shape[-1]
        return given.reshape(-1, columns).t() if self.by_columns else given.reshape(columns, -1)

    def result(self, rows: Tensor) -> Tensor:
        """The rows of the product in the shape of the result."""
        y = rows.view(self.shape)
        return y.permute(0, 3, 1, 2) if self.is_image else y


def vector(x: Tensor | None) -> Tensor | None:
    """`x` with one axis."""
    return None if x is None else x.reshape(-1)


def spaced_rows(x: Tensor, is_image: bool) -> Tensor:
    """The rows of channels, between which there may be gaps, as in a part of the channels."""
    x = x.permute(0, 2, 3, 1) if is_image else x
    rows = x.reshape(-1, x.shape[-1])
    return rows if rows.stride(-1) == 1 else rows.contiguous()


def packed_rows(x: Tensor, is_image: bool) -> Tensor:
    """The rows of channels, without gaps."""
    return spaced_rows(x, is_image).contiguous()


def rows_of_parts(out: Tensor | None) -> Tensor | None:
    """The rows of channels of `out`, never a copy of them."""
    return None if out is None else out.permute(0, 2, 3, 1).view(-1, out.shape[1])


def vectors(gate: Tensor) -> Tensor:
    """The factors of the channels of each image, (N, C)."""
    return gate.reshape(gate.shape[0], -1).contiguous()

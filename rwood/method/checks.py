"""Rows on their way to a statistic or a score: checked, cut into chunks, beside their tensors.

Legend of shape suffixes: N or Q rows, D dims, K dims of another space.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

# Entries of the largest temporary of a chunk; a chunk has enough rows for a fast matrix product.
_CHUNK_ENTRIES = 2**20
_CHUNK_ROWS = 256


def check_embeddings(embeddings_ND: Tensor, dims: int | None = None) -> None:
    """Refuses (N, D) embeddings that would give a meaningless statistic or score.

    Raises:
        ValueError: not a matrix of that many dims, without rows, or with NaN or infinite values.
    """
    shape = tuple(embeddings_ND.shape)
    if len(shape) != 2 or not shape[0] or (dims is not None and shape[1] != dims):
        wanted = "dims" if dims is None else dims
        raise ValueError(f"embeddings must be (rows, {wanted}) with a row at least, got {shape}")
    # The sum is finite for any sane input and cheaper than a mask of the whole matrix.
    if not bool(embeddings_ND.sum().isfinite()) and not bool(embeddings_ND.isfinite().all()):
        raise ValueError("embeddings hold NaN or infinite values")


def chunks(rows_QD: Tensor, width: int) -> Iterator[Tensor]:
    """Consecutive rows, in float32 at least, few enough for a temporary of that width."""
    dtype = torch.promote_types(rows_QD.dtype, torch.float32)
    height = max(_CHUNK_ROWS, _CHUNK_ENTRIES // width)
    for start in range(0, rows_QD.shape[0], height):
        yield rows_QD[start : start + height].to(dtype)


def beside(rows_QD: Tensor, *state: Tensor) -> list[Tensor]:
    """Fitted tensors on the device of the rows and in the dtype of their chunks."""
    dtype = torch.promote_types(rows_QD.dtype, torch.float32)
    return [tensor.to(rows_QD.device, dtype) for tensor in state]


def squared_distance(rows_QD: Tensor, point_D: Tensor, map_DK: Tensor) -> Tensor:
    """(Q,) squared distances to a point in the space that a matrix maps to."""
    point_D, map_DK = beside(rows_QD, point_D, map_DK)
    return torch.cat(
        [
            ((chunk_QD - point_D) @ map_DK).square_().sum(1)
            for chunk_QD in chunks(rows_QD, max(map_DK.shape))
        ]
    )

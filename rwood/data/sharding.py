"""Who sees which images when: an epoch's seeded order, cut into batches and workers' shares."""

import functools
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Share:
    """What one worker takes of one step."""

    rows_n: Tensor
    """(n,) int64 rows of the image set."""
    views_2n: Tensor
    """(2n,) int64 rows of the step's view parameters: first views, then second views."""
    batch_B: Tensor
    """(B,) int64 rows of the image set in the global batch."""
    epoch: int
    """0-based."""
    step: int
    """0-based, in the epoch."""

    @property
    def count(self) -> int:
        """B, images of the global batch."""
        return len(self.batch_B)


def shares(
    total: int,
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    rank: int,
    world_size: int,
    first_step: int = 0,
) -> Iterator[Share]:
    """One worker's shares of an epoch (0-based), whose order follows from it and the run's seed.

    Of a step's B images, rank r of W takes rows floor(r B / W) to floor((r + 1) B / W). Steps
    before `first_step` are left out.
    """
    order_N = _order(total, seed, epoch)
    starts = range(first_step * batch_size, total, batch_size)
    for step, start in enumerate(starts, first_step):
        batch_B = order_N[start : start + batch_size]
        count = len(batch_B)
        mine = torch.arange(rank * count // world_size, (rank + 1) * count // world_size)
        yield Share(batch_B[mine], torch.cat([mine, count + mine]), batch_B, epoch, step)


@functools.lru_cache(maxsize=2)
def _order(total: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(total, generator=generator_of(f"order {seed} {epoch}"))


def generator_of(key: str) -> torch.Generator:
    """A CPU generator seeded by a text, so that what is drawn depends on nothing else."""
    digest = hashlib.sha256(key.encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)

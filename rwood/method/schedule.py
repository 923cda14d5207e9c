"""The learning rate as a pure function of the step, so that resuming needs no scheduler state."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

Warmup = Literal["fixed", "reference", "none"]
Decay = Literal["cosine", "step"]


def learning_rate(
    *,
    epoch: int,
    step: int,
    steps_per_epoch: int,
    epochs: int,
    lr: float,
    warmup: Warmup = "fixed",
    warmup_epochs: int = 10,
    warmup_from: float = 0.001,
    decay: Decay = "cosine",
    milestones: Sequence[int] = (50, 75, 90),
    decay_rate: float = 0.1,
) -> float:
    """Learning rate of one optimiser step, counted from 0 within an epoch counted from 0.

    The decay is constant within an epoch: half a cosine from `lr` down to lr * decay_rate**3, or a
    factor `decay_rate` for every milestone (a 0-based epoch) passed.

    The warm-up overrides it with a straight line in steps:

    - ``fixed`` ramps from `warmup_from` to the decayed rate of epoch `warmup_epochs`, which the
      last warm-up step reaches; it is never negative. The ramp starts lower where that goal is
      below `warmup_from`, and takes at most half of the training (rounded down to epochs): a
      longer one would aim at the far end of the cosine and the rate would never come near `lr`.
    - ``reference`` is the authors' schedule to the digit. Their warm-up counts epochs from one
      while its formula counts from zero, so it lasts ``warmup_epochs + 1`` epochs and starts one
      epoch before zero: with lr 0.1 the first epoch's rates run from -0.0086 to 0.001, mostly
      gradient ascent. It is not shortened in a short training.
    - ``none`` is the decay alone.

    Returns:
        The rate; negative in the first epoch of ``reference`` only.

    Raises:
        ValueError: the step lies outside of the epoch, or a name is unknown.
    """
    if not 0 <= step < steps_per_epoch or epoch < 0:
        raise ValueError(
            f"epoch {epoch}, step {step} is not a step of epochs of {steps_per_epoch} steps"
        )

    def decayed(at_epoch: int) -> float:
        if decay == "cosine":
            floor = lr * decay_rate**3
            return floor + (lr - floor) * (1.0 + math.cos(math.pi * at_epoch / epochs)) / 2.0
        if decay == "step":
            return lr * decay_rate ** sum(at_epoch > milestone for milestone in milestones)
        raise ValueError(f"unknown decay {decay!r}: cosine or step")

    if warmup == "reference":
        if epoch > warmup_epochs or warmup_epochs == 0:
            return decayed(epoch)
        progress = (step + 1 + (epoch - 1) * steps_per_epoch) / (warmup_epochs * steps_per_epoch)
        # The authors aim at the undecayed rate when the decay is by steps.
        goal = decayed(warmup_epochs) if decay == "cosine" else lr
        return warmup_from + progress * (goal - warmup_from)
    if warmup == "fixed":
        ramp_epochs = min(warmup_epochs, epochs // 2)
        if epoch >= ramp_epochs:
            return decayed(epoch)
        progress = (step + 1 + epoch * steps_per_epoch) / (ramp_epochs * steps_per_epoch)
        goal = decayed(ramp_epochs)
        start = min(warmup_from, goal)
        return start + progress * (goal - start)
    if warmup == "none":
        return decayed(epoch)
    raise ValueError(f"unknown warmup {warmup!r}: fixed, reference or none")

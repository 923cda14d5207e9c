"""What a run carries from epoch to epoch, and how a checkpoint holds it."""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from rwood.model.encoder import Encoder
from rwood.model.precision import Precision
from rwood.results import EpochReport
from rwood.training.checkpoint import State


@dataclass
class RunState:
    """What a checkpoint holds."""

    encoder: Encoder
    loss: nn.Module
    """With what it carries from step to step."""
    optimizer: torch.optim.SGD
    scaler: torch.amp.GradScaler
    precision: Precision
    history: list[EpochReport]
    compiled: bool = False
    """Whether network and views are compiled; no part of a checkpoint."""
    best_loss: float = math.inf
    best_weights: dict[str, Tensor] | None = None
    losses: list[float] = field(default_factory=list)
    """Of an epoch that is not at its end, a step each."""
    seconds: float = 0.0
    """That such an epoch took so far."""

    def state_dict(self) -> State:
        """Plain values and tensors."""
        device = self.precision.device
        cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        return {
            "encoder": self.encoder.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "precision": self.precision.name,
            "generators": {"cpu": torch.get_rng_state(), "cuda": cuda},
            "history": json.dumps([report.model_dump() for report in self.history]),
            "best_loss": self.best_loss,
            "best_weights": self.best_weights,
            "loss": self.loss.state_dict(),
            "losses": self.losses,
            "seconds": self.seconds,
        }

    def load_state_dict(self, state: State) -> None:
        """Go back to where a checkpoint was written."""
        self.encoder.load_state_dict(state["encoder"])
        self.optimizer.load_state_dict(state["optimizer"])
        # Written on another device, momenta may have another memory layout than the weights, which
        # the fused step takes to be the same.
        for parameter, held in self.optimizer.state.items():
            momentum = held.get("momentum_buffer")
            if momentum is not None:
                held["momentum_buffer"] = torch.empty_like(parameter).copy_(momentum)
        if state["scaler"]:  # empty if written where no loss scale was needed
            self.scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["generators"]["cpu"])
        device, cuda = self.precision.device, state["generators"]["cuda"]
        if device.type == "cuda" and cuda is not None:
            torch.cuda.set_rng_state(cuda, device)
        self.history = [EpochReport.model_validate(r) for r in json.loads(state["history"])]
        self.best_loss = state["best_loss"]
        self.best_weights = state["best_weights"]
        for key, value in state["loss"].items():  # A step may make a buffer, or another size of it.
            module, _, name = key.rpartition(".")
            owner = self.loss.get_submodule(module)
            if name in dict(owner.named_buffers(recurse=False)) or getattr(owner, name, 0) is None:
                setattr(owner, name, value.to(device))
        self.loss.load_state_dict(state["loss"])
        self.losses, self.seconds = state["losses"], state["seconds"]

    def weights(self) -> dict[str, Tensor]:
        """A copy of the weights on the CPU, in the plain memory layout."""
        return {
            key: value.detach().cpu().clone(memory_format=torch.contiguous_format)
            for key, value in self.encoder.state_dict().items()
        }

    @contextmanager
    def kept_weights(self) -> Iterator[Encoder]:
        """The encoder with the weights that the run would return now; training's weights after.

        These are `best_weights` where there are some, batch-norm buffers included, else the last.
        """
        if self.best_weights is None:
            yield self.encoder
            return
        training = self.weights()
        self.encoder.load_state_dict(self.best_weights)
        try:
            yield self.encoder
        finally:
            self.encoder.load_state_dict(training)

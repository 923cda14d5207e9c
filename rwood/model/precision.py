"""Precision and memory layout of a network on a device, and how the device is set up for it.

Only the backbone computes in half precision. Its pooled output, the head, the loss, the scores and
all statistics stay float32 or wider.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

PrecisionName = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class Precision:
    """Precision and memory layout of a network on a device."""

    name: PrecisionName
    device: torch.device
    channels_last: bool

    def place(self, encoder: nn.Module) -> None:
        """Move the weights to the device, in the layout."""
        encoder.to(self.device)
        if self.channels_last:
            encoder.to(memory_format=torch.channels_last)

    def lay_out(self, images: Tensor) -> Tensor:
        """A batch in the layout."""
        if not self.channels_last:
            return images
        return images.contiguous(memory_format=torch.channels_last)

    def autocast(self) -> AbstractContextManager[object]:
        """What the forward pass runs in."""
        if self.name == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=getattr(torch, self.name))

    def scaler(self) -> torch.amp.GradScaler:
        """The loss scale of float16, kept on the device.

        On a GPU it also guards the step in other precisions: the fused kernel skips it when a
        gradient is not finite, so that no step needs to be awaited by the host.
        """
        half = self.name == "float16"
        return torch.amp.GradScaler(
            self.device.type,
            init_scale=2.0**12 if half else 1.0,
            growth_interval=2000 if half else 2**31 - 1,
            enabled=half or self.device.type == "cuda",
        )

    @property
    def significand_bits(self) -> int:
        """24 for float32, 11 for float16, 8 for bfloat16: how a report names the precision."""
        return {"float32": 24, "float16": 11, "bfloat16": 8}[self.name]


def precision_on(precision: PrecisionName, device: torch.device, channels: int) -> Precision:
    """With its layout: colour images gain from channels last, grey digits do not."""
    return Precision(precision, device, channels_last=channels == 3)


def set_up(device: torch.device) -> None:
    """Choose how a GPU convolves and multiplies, as training, scoring and detectors all want it.

    TF32 in convolutions, as torch and the authors have it; never in the products of the loss and of
    the scorers. So embeddings of a GPU differ from a CPU's by about 1e-3 of their length.
    Convolutions are timed and the fastest taken, but in torch's deterministic mode.
    """
    if device.type != "cuda":
        return
    torch.backends.cudnn.benchmark = not torch.are_deterministic_algorithms_enabled()
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cuda.matmul.allow_tf32 = False

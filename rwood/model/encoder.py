"""The encoder: embed() to score, project() to train."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rwood.model.backbone import Backbone, build_backbone
from rwood.spec.run import ModelSpec


class Encoder(nn.Module):
    """A backbone, whose unit-length output is scored, and a head that only the loss sees.

    The layout, and the state-dict keys with it, is that of OpenOOD's CIDER network. Differs from
    it: a batch of one works.
    """

    def __init__(self, backbone: Backbone, projection_dim: int) -> None:
        """Put a head of two linear layers on a backbone."""
        super().__init__()
        dim = backbone.dim
        self.backbone = backbone
        self.head = nn.Sequential(
            nn.Linear(dim, dim), nn.ReLU(inplace=True), nn.Linear(dim, projection_dim)
        )

    @property
    def dim(self) -> int:
        """Length of an embedding."""
        return int(self.backbone.dim)

    def embed(self, images: Tensor) -> Tensor:
        """Embeddings to score: (N, C, H, W) -> (N, dim) unit rows, float32 or wider."""
        return F.normalize(self.backbone(images), dim=1)

    def project(self, images: Tensor) -> Tensor:
        """Projections for the loss: (N, C, H, W) -> (N, projection_dim) unit rows.

        Head and normalisation keep float32 or wider under autocast: the loss divides cosines by
        a small temperature.
        """
        features = self.backbone(images)
        with torch.autocast(features.device.type, enabled=False):
            return F.normalize(self.head(features), dim=1)

    def forward(self, images: Tensor) -> Tensor:
        """The same as `project`: what a data-parallel wrapper calls."""
        return self.project(images)


def build_encoder(spec: ModelSpec, *, channels: int, seed: int) -> Encoder:
    """An encoder with fresh weights that depend on nothing but its arguments.

    The global random state is neither read nor moved.

    Args:
        spec: the network.
        channels: of the images, 1 or 3.
        seed: of the weights.
    """
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        return Encoder(build_backbone(spec, channels), spec.projection_dim)


def trainable_parameters(encoder: Encoder, spec: ModelSpec) -> Iterator[nn.Parameter]:
    """Freeze what the settings freeze, and return what is trained.

    Under `trainable: layer4` only the last stage and the head learn. Frozen stages stay in train
    mode as in the authors' code: their batch norm uses batch statistics and updates its running
    ones. To be called before a data-parallel wrapper looks for gradients.
    """
    if spec.trainable == "layer4":
        encoder.backbone.requires_grad_(False)
        encoder.backbone.get_submodule("layer4").requires_grad_(True)
    return (p for p in encoder.parameters() if p.requires_grad)

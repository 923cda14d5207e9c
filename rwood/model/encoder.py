"""The encoder: embed() to score, project() to train."""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rwood.config.backbones import ModelConfig
from rwood.config.benchmark import BenchmarkConfig
from rwood.config.run import RunConfig
from rwood.errors import SpecError
from rwood.model.backbone import Backbone, build_backbone


class Encoder(nn.Module, ABC):
    """A backbone, whose output is scored, and a last part that the loss sees."""

    def __init__(self, backbone: Backbone) -> None:
        """Take a backbone; a subclass adds the last part."""
        super().__init__()
        self.backbone = backbone

    @property
    def dim(self) -> int:
        """Length of an embedding."""
        return int(self.backbone.dim)

    @property
    def classifier(self) -> tuple[Tensor, Tensor] | None:
        """Weights (classes, dim) and biases of a classifier's last layer; None without one."""
        return None

    def features(self, images: Tensor) -> Tensor:
        """The backbone's output as it is: (N, C, H, W) -> (N, dim), float32 or wider."""
        features: Tensor = self.backbone(images)
        return features

    def embed(self, images: Tensor) -> Tensor:
        """Embeddings to score: (N, C, H, W) -> (N, dim) unit rows, float32 or wider."""
        return F.normalize(self.features(images), dim=1)

    def project(self, images: Tensor) -> Tensor:
        """What the loss sees: unit projections, or a classifier's logits.

        The last part keeps float32 or wider under autocast: a loss divides cosines by a small
        temperature.
        """
        features = self.features(images)
        with torch.autocast(features.device.type, enabled=False):
            return self._last(features)

    def forward(self, images: Tensor) -> Tensor:
        """The same as `project`: what a data-parallel wrapper calls."""
        return self.project(images)

    @abstractmethod
    def _last(self, features: Tensor) -> Tensor:
        """The last part: features to what the loss sees."""


class Contrastive(Encoder):
    """An encoder with a projection head.

    The layout, and the state-dict keys with it, is that of OpenOOD's CIDER network. Differs from
    it: a batch of one works.
    """

    def __init__(self, backbone: Backbone, projection_dim: int) -> None:
        """Put a head of two linear layers on a backbone."""
        super().__init__(backbone)
        dim = backbone.dim
        self.head = nn.Sequential(
            nn.Linear(dim, dim), nn.ReLU(inplace=True), nn.Linear(dim, projection_dim)
        )

    def _last(self, features: Tensor) -> Tensor:
        """(N, dim) -> (N, projection_dim) unit rows."""
        return F.normalize(self.head(features), dim=1)


class Classifier(Encoder):
    """An encoder with one linear layer, as OpenOOD's classifiers have it."""

    def __init__(self, backbone: Backbone, classes: int) -> None:
        """Put a linear layer on a backbone."""
        super().__init__(backbone)
        self.fc = nn.Linear(backbone.dim, classes)

    @property
    def classifier(self) -> tuple[Tensor, Tensor]:
        """Weights (classes, dim) and biases of the last layer."""
        return self.fc.weight.detach(), self.fc.bias.detach()

    def _last(self, features: Tensor) -> Tensor:
        """(N, dim) -> (N, classes) logits."""
        logits: Tensor = self.fc(features)
        return logits


def build_encoder(
    config: ModelConfig, *, channels: int, seed: int, classes: int | None = None
) -> Encoder:
    """An encoder with fresh weights that depend on nothing but its arguments.

    The global random state is neither read nor moved.

    Args:
        config: the network.
        channels: of the images, 1 or 3.
        seed: of the weights.
        classes: number of logits of a classifier; None for a projection head.
    """
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        backbone = build_backbone(config, channels)
        if classes is not None:
            return Classifier(backbone, classes)
        return Contrastive(backbone, config.projection_dim)


def encoder_of(run: RunConfig, benchmark: BenchmarkConfig) -> Encoder:
    """The encoder of a run, with fresh weights of its seed."""
    classes = benchmark.classes if run.is_classifier else None
    return build_encoder(run.model, channels=benchmark.channels, seed=run.seed, classes=classes)


def freeze(encoder: Encoder, config: ModelConfig) -> None:
    """Freeze what the settings freeze: those parameters require no gradient.

    Under `trainable: layer4` only the last stage and what follows it learn. Frozen stages stay in
    train mode as in the authors' code: their batch norm uses batch statistics and updates its
    running ones. To be called before a data-parallel wrapper looks for gradients.

    Raises:
        SpecError: other people's backbone has no `layer4`.
    """
    if config.trainable == "layer4":
        named = dict(encoder.backbone.named_modules())
        last = named.get("layer4") or named.get("network.layer4")
        if last is None:
            raise SpecError(f"model.trainable: {config.backbone} has no layer4; train all of it")
        encoder.backbone.requires_grad_(False)
        last.requires_grad_(True)

"""Backbones: a small CNN for 8x8 digits and ResNets under OpenOOD's names.

Every backbone maps (N, C, H, W) images to (N, dim) pooled features after the last ReLU, has four
stages `layer1` to `layer4`, and no classifier. Shapes and state-dict keys of the ResNets are
those of OpenOOD's checkpoints: `shortcut` in the 32x32 network, `downsample` at 224.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rwood.config.backbones import BACKBONES, TIMM, ModelConfig
from rwood.config.registry import asked_for, find
from rwood.errors import SpecError

STAGES = ("layer1", "layer2", "layer3", "layer4")


class Backbone(nn.Module):
    """Images to pooled features."""

    dim: int
    """Length of a feature vector."""


def build_backbone(config: ModelConfig, channels: int) -> Backbone:
    """A backbone with fresh weights from the global random state.

    Args:
        config: which one, and its width.
        channels: of the images, 1 or 3.
    """
    match config.backbone:
        case "small_cnn":
            return SmallCNN(config.width, channels)
        case "resnet18_32x32":
            return ResNet((2, 2, 2, 2), config.width, channels, large=False)
        case "resnet18_224x224":
            return ResNet((2, 2, 2, 2), config.width, channels)
        case "resnet50":
            return ResNet((3, 4, 6, 3), config.width, channels, bottleneck=True)
        case _:
            return OtherBackbone(_build_other(config, channels))


def _build_other(config: ModelConfig, channels: int) -> nn.Module:
    """Other people's network."""
    part, _ = find("backbones", config.part, tuple(BACKBONES))
    given = {"channels": channels, "timm_name": config.backbone.removeprefix(TIMM)}
    network: nn.Module = part(**asked_for(part, dict(config) | given))
    return network


class OtherBackbone(Backbone):
    """Any network that maps images to (N, dim) features, and has `dim` or `num_features`."""

    def __init__(self, network: nn.Module) -> None:
        """Wrap it.

        Raises:
            SpecError: it does not say how long its features are.
        """
        super().__init__()
        self.network = network
        dim = getattr(network, "dim", None) or getattr(network, "num_features", None)
        if not isinstance(dim, int):
            raise SpecError(
                f"model.backbone: {type(network).__name__} has neither `dim` nor `num_features`: "
                "one of them must say how long its features are"
            )
        self.dim = dim

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, dim), float32 or wider."""
        features = self.network(images)
        return features.to(torch.promote_types(features.dtype, torch.float32))  # type: ignore[no-any-return]


class SmallCNN(Backbone):
    """Four 3x3 convolutions with batch norm and ReLU, the second and fourth of stride 2."""

    def __init__(self, width: int, channels: int) -> None:
        """Build four layers of widths w, w, 2w, 2w."""
        super().__init__()
        widths = (channels, width, width, 2 * width, 2 * width)
        for i, stride in enumerate((1, 2, 1, 2)):
            layer = nn.Sequential(
                nn.Conv2d(widths[i], widths[i + 1], 3, stride, padding=1, bias=False),
                nn.BatchNorm2d(widths[i + 1]),
                nn.ReLU(inplace=True),
            )
            self.add_module(f"layer{i + 1}", layer)
        self.dim = widths[-1]

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, dim)."""
        for name in STAGES:
            images = self.get_submodule(name)(images)
        return _pool(images)


class Block(nn.Module):
    """A residual block: convolutions with batch norm, plus the input or a 1x1 convolution of it.

    Two 3x3 convolutions; or, as a bottleneck, 1x1, 3x3 and 1x1 with four times as many outputs. The
    stride is that of the first 3x3 convolution; ReLU follows each but the last, and the sum.
    """

    def __init__(
        self, inputs: int, width: int, stride: int, projection: str, bottleneck: bool
    ) -> None:
        """Make the layers; `projection` is the name of the 1x1 convolution beside them."""
        super().__init__()
        self.projection = projection
        self.outputs = 4 * width if bottleneck else width
        layers = (
            [(1, 1, width), (3, stride, width), (1, 1, self.outputs)]
            if bottleneck
            else [(3, stride, width), (3, 1, width)]
        )
        channels = inputs
        for i, (kernel, step, outputs) in enumerate(layers, 1):
            conv = nn.Conv2d(channels, outputs, kernel, step, padding=kernel // 2, bias=False)
            self.add_module(f"conv{i}", conv)
            self.add_module(f"bn{i}", nn.BatchNorm2d(outputs))
            channels = outputs
        self.depth = len(layers)
        if stride != 1 or inputs != self.outputs:
            conv = nn.Conv2d(inputs, self.outputs, 1, stride, bias=False)
            self.add_module(projection, nn.Sequential(conv, nn.BatchNorm2d(self.outputs)))

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, outputs, H / stride, W / stride)."""
        residual = images
        for i in range(1, self.depth + 1):
            residual = self.get_submodule(f"bn{i}")(self.get_submodule(f"conv{i}")(residual))
            residual = torch.relu(residual) if i < self.depth else residual
        if self.projection in self._modules:
            images = self.get_submodule(self.projection)(images)
        return torch.relu(residual + images)


class ResNet(Backbone):
    """He et al., CVPR 2016, in OpenOOD's two forms.

    For large images: torchvision's network and its weights' law (normal, variance 2 / fan-out).
    For small ones: a stem of 3x3 and stride 1, no max-pool, PyTorch's default weights.
    """

    def __init__(
        self,
        blocks: Sequence[int],
        width: int,
        channels: int,
        *,
        large: bool = True,
        bottleneck: bool = False,
    ) -> None:
        """Build four stages of widths w, 2w, 4w, 8w."""
        super().__init__()
        if large:
            self.conv1 = nn.Conv2d(channels, width, 7, 2, padding=3, bias=False)
        else:
            self.conv1 = nn.Conv2d(channels, width, 3, 1, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.pool = nn.MaxPool2d(3, 2, padding=1) if large else nn.Identity()
        projection = "downsample" if large else "shortcut"
        inputs = width
        for i, depth in enumerate(blocks):
            stage = []
            for j in range(depth):
                stride = 2 if i > 0 and j == 0 else 1
                stage.append(Block(inputs, width << i, stride, projection, bottleneck))
                inputs = stage[-1].outputs
            self.add_module(f"layer{i + 1}", nn.Sequential(*stage))
        self.dim = inputs
        if large:
            for module in self.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, dim)."""
        images = self.pool(torch.relu(self.bn1(self.conv1(images))))
        for name in STAGES:
            images = self.get_submodule(name)(images)
        return _pool(images)


def _pool(images: Tensor) -> Tensor:
    """Global average in float32 or wider, whatever the arithmetic before it."""
    wide = torch.promote_types(images.dtype, torch.float32)
    return images.mean(dim=(2, 3), dtype=wide)

"""Backbones: a small CNN for 8x8 digits and ResNets under OpenOOD's names.

Every backbone maps (N, C, H, W) images to (N, dim) pooled features after the last ReLU, has four
stages `layer1` to `layer4`, and no classifier. Shapes and state-dict keys of the ResNets are
those of OpenOOD's checkpoints: `shortcut` in the 32x32 network, `downsample` at 224.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rwood.config.backbones import BACKBONES, TIMM, ModelConfig
from rwood.config.registry import find
from rwood.errors import SpecError


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
            return ResNet(BasicBlock, (2, 2, 2, 2), config.width, channels, stem="3x3")
        case "resnet18_224x224":
            return ResNet(BasicBlock, (2, 2, 2, 2), config.width, channels, stem="7x7")
        case "resnet50":
            return ResNet(Bottleneck, (3, 4, 6, 3), config.width, channels, stem="7x7")
        case _:
            return OtherBackbone(_build_other(config, channels))


def _build_other(config: ModelConfig, channels: int) -> nn.Module:
    """Other people's network."""
    part = find("backbones", config.part, tuple(BACKBONES))
    parameters = inspect.signature(part).parameters
    settings = {key: v for key, v in config.model_dump().items() if key in parameters}
    given = {"channels": channels, "timm_name": config.backbone.removeprefix(TIMM)}
    given = {key: value for key, value in given.items() if key in parameters}
    network: nn.Module = part(**settings, **given)
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
        for name in ("layer1", "layer2", "layer3", "layer4"):
            images = self.get_submodule(name)(images)
        return _pool(images)


class _Block(nn.Module, ABC):
    """A residual block: some layers, plus the input or a 1x1 convolution of it, then ReLU."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, projection: str) -> None:
        super().__init__()
        self.projection = projection
        outputs = width * self.expansion
        self._add_layers(inputs, width, stride)
        if stride != 1 or inputs != outputs:
            conv = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.add_module(projection, nn.Sequential(conv, nn.BatchNorm2d(outputs)))

    @abstractmethod
    def _add_layers(self, inputs: int, width: int, stride: int) -> None:
        """Make the layers of the residual path."""

    @abstractmethod
    def _residual(self, images: Tensor) -> Tensor:
        """What they make of the images, before ReLU."""

    def forward(self, images: Tensor) -> Tensor:
        residual = self._residual(images)
        if self.projection in self._modules:
            images = self.get_submodule(self.projection)(images)
        return torch.relu(residual + images)


class BasicBlock(_Block):
    """Two 3x3 convolutions."""

    def _add_layers(self, inputs: int, width: int, stride: int) -> None:
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def _residual(self, images: Tensor) -> Tensor:
        hidden = torch.relu(self.bn1(self.conv1(images)))
        return self.bn2(self.conv2(hidden))  # type: ignore[no-any-return]


class Bottleneck(_Block):
    """1x1, 3x3 (with the stride) and 1x1 convolutions; four times as many outputs."""

    expansion = 4

    def _add_layers(self, inputs: int, width: int, stride: int) -> None:
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)

    def _residual(self, images: Tensor) -> Tensor:
        hidden = torch.relu(self.bn1(self.conv1(images)))
        hidden = torch.relu(self.bn2(self.conv2(hidden)))
        return self.bn3(self.conv3(hidden))  # type: ignore[no-any-return]


class ResNet(Backbone):
    """He et al., CVPR 2016, in OpenOOD's two forms.

    With the 3x3 stem: stride 1, no max-pool, PyTorch's default weights. With the 7x7 stem:
    torchvision's network and its weights' law (normal, variance 2 / fan-out).
    """

    def __init__(
        self,
        block: type[_Block],
        blocks: Sequence[int],
        width: int,
        channels: int,
        stem: str,
    ) -> None:
        """Build four stages of widths w, 2w, 4w, 8w."""
        super().__init__()
        large = stem == "7x7"
        if large:
            self.conv1 = nn.Conv2d(channels, width, 7, 2, padding=3, bias=False)
        else:
            self.conv1 = nn.Conv2d(channels, width, 3, 1, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.pool = nn.MaxPool2d(3, 2, padding=1) if large else nn.Identity()
        inputs = width
        for i, depth in enumerate(blocks):
            stage = []
            for j in range(depth):
                stride = 2 if i > 0 and j == 0 else 1
                stage.append(
                    block(inputs, width << i, stride, "downsample" if large else "shortcut")
                )
                inputs = (width << i) * block.expansion
            self.add_module(f"layer{i + 1}", nn.Sequential(*stage))
        self.dim = inputs
        if large:
            for module in self.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, dim)."""
        images = self.pool(torch.relu(self.bn1(self.conv1(images))))
        for name in ("layer1", "layer2", "layer3", "layer4"):
            images = self.get_submodule(name)(images)
        return _pool(images)


def _pool(images: Tensor) -> Tensor:
    """Global average in float32 or wider, whatever the arithmetic before it."""
    wide = torch.promote_types(images.dtype, torch.float32)
    return images.mean(dim=(2, 3), dtype=wide)

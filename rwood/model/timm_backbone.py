"""Networks of timm as backbones; needs the extra `timm`."""

from torch import nn


def timm_backbone(
    timm_name: str, channels: int, *, drop_rate: float = 0.0, drop_path_rate: float = 0.0
) -> nn.Module:
    """A network of timm without its classifier, with fresh weights.

    Args:
        timm_name: as `timm.list_models()` has it.
        channels: of the images, 1 or 3.
        drop_rate: dropout before the output.
        drop_path_rate: share of residual paths that are dropped in training.

    Raises:
        ModuleNotFoundError: timm is not installed.
    """
    import timm

    network: nn.Module = timm.create_model(
        timm_name,
        pretrained=False,
        num_classes=0,
        in_chans=channels,
        drop_rate=drop_rate,
        drop_path_rate=drop_path_rate,
    )
    return network

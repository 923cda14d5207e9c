"""Networks of timm as backbones; needs the extra `timm`."""

from torch import nn


def timm_backbone(
    timm_name: str, channels: int, *, drop_rate: float = 0.0, drop_path_rate: float = 0.0
) -> nn.Module:
    """A network of `timm.list_models()` without its classifier, with fresh weights.

    `drop_rate` is the dropout before the output, `drop_path_rate` the share of residual paths
    dropped in training.

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

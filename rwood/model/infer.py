"""Which network a checkpoint belongs to, from its keys and shapes."""

from collections.abc import Mapping

from pydantic import ValidationError
from torch import Tensor

from rwood.config.backbones import BACKBONES, ModelConfig
from rwood.errors import DataError


def infer_model(state: Mapping[str, Tensor]) -> tuple[ModelConfig, int, int | None]:
    """The network that a state dict was saved from.

    Args:
        state: keys of an encoder: `backbone.*`, and `head.0.*`, `head.2.*` or `fc.*`.

    Returns:
        The network, the channels of its images, and the classes of a classifier, None for an
        encoder with a projection head.

    Raises:
        DataError: no such network.
    """
    head, fc = state.get("head.2.weight"), state.get("fc.weight")
    last = head if head is not None else fc
    if last is None:
        raise DataError(
            "the checkpoint lacks head.2.weight and fc.weight: it is neither an encoder with a "
            "projection head (ReweightOOD, CIDER or rwood) nor a classifier",
            key="head.2.weight",
        )
    stem = state.get("backbone.conv1.weight")
    if stem is None:
        stem = next((v for k, v in state.items() if k.startswith("backbone.layer1")), last)
        backbone = "small_cnn"
    elif "backbone.layer1.0.conv3.weight" in state:
        backbone = "resnet50"
    else:
        backbone = "resnet18_224x224" if stem.shape[-1] == 7 else "resnet18_32x32"
    try:
        settings = {"backbone": backbone, "width": stem.shape[0]}
        settings |= {} if head is None else {"projection_dim": head.shape[0]}
        model, classes = ModelConfig.model_validate(settings), None if head is last else len(last)
        return model, stem.shape[1], classes
    except (IndexError, ValidationError) as error:
        raise DataError(
            "the shapes of the checkpoint's first and last layer are those of none of rwood's "
            f"networks ({', '.join(BACKBONES)})"
        ) from error

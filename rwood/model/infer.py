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
    try:
        return _by_shapes(state, last, is_classifier=head is None)
    except (IndexError, ValidationError) as error:
        raise DataError(
            "the shapes of the checkpoint's first and last layer are those of none of rwood's "
            f"networks ({', '.join(BACKBONES)})"
        ) from error


def _by_shapes(
    state: Mapping[str, Tensor], last: Tensor, *, is_classifier: bool
) -> tuple[ModelConfig, int, int | None]:
    """The same of a state dict with a last layer.

    Raises:
        IndexError: first or last layer have too few dimensions.
        pydantic.ValidationError: they are of a size that no network has.
    """
    outputs = last.shape[0]
    settings: dict[str, object] = {} if is_classifier else {"projection_dim": outputs}
    stem = state.get("backbone.conv1.weight")
    if stem is None:
        stem = next((v for k, v in state.items() if k.startswith("backbone.layer1")), last)
        backbone = "small_cnn"
    elif "backbone.layer1.0.conv3.weight" in state:
        backbone = "resnet50"
    elif stem.shape[-1] == 7:
        backbone = "resnet18_224x224"
    else:
        backbone = "resnet18_32x32"
    settings |= {"backbone": backbone, "width": stem.shape[0]}
    return ModelConfig.model_validate(settings), stem.shape[1], outputs if is_classifier else None

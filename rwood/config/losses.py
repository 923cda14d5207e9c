"""What a run minimises: the settings of each loss, and losses of other people by name."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny

from rwood.config.base import NotNegative, Number, Positive, Share
from rwood.config.registry import PartConfig, find, read, settings_of

GIVEN = frozenset({"classes", "dims"})
"""Parameters of a loss that rwood fills in: the number of ID classes, the length of a row."""
_Temperature = Annotated[Number, Field(ge=0.005, le=10)]
_Scope = Literal["global", "local"]


class LossConfig(PartConfig):
    """A loss by name, and its settings."""

    name: str
    """Which loss: one of ours, of an entry point `rwood.losses`, or `package.module:Class`."""
    is_classifier: ClassVar[bool] = False
    """Whether it sees logits of a classifier, and not projections."""

    def __reduce__(self) -> tuple[Any, ...]:
        """By name and values: other people's settings are made when they are read."""
        return (load_loss, (self.model_dump(mode="json"),))


class ReweightOODLoss(LossConfig):
    """ReweightOOD (Regmi et al., CVPRW 2024); the defaults are the authors' settings."""

    part: ClassVar[str] = "rwood.method.losses:ReweightOOD"
    name: Literal["reweightood"] = "reweightood"
    temperature: _Temperature = 0.1
    """tau, divides every weighted cosine."""
    within_scale: Annotated[Number, Field(ge=0, le=100)] = 2.0
    """m_w, slope of the weight of same-class pairs."""
    within_shift: Annotated[Number, Field(ge=-100, le=100)] = 1.0
    """c_w, shift of the weight of same-class pairs."""
    between_scale: Annotated[Number, Field(ge=0, le=100)] = 5.0
    """m_b, slope of the weight of different-class pairs."""
    between_shift: Annotated[Number, Field(ge=-100, le=100)] = 4.0
    """c_b, shift of the weight of different-class pairs."""
    scope: _Scope = "global"
    """`global`: all pairs of the batch; `local`: pairs inside one worker, as the authors train."""


class SupConLoss(LossConfig):
    """Supervised contrastive learning (Khosla et al., NeurIPS 2020)."""

    part: ClassVar[str] = "rwood.method.losses:SupCon"
    name: Literal["supcon"] = "supcon"
    temperature: _Temperature = 0.1
    """tau, divides every cosine."""
    base_temperature: Positive = 0.07
    """The loss is multiplied by temperature / base_temperature."""
    scope: _Scope = "global"
    """`global`: all pairs of the batch; `local`: pairs inside one worker."""


class CiderLoss(LossConfig):
    """CIDER (Ming et al., ICLR 2023); the defaults are the authors' settings for CIFAR-10.

    Its prototypes follow the rows of the global batch, so that it has no local scope.
    """

    part: ClassVar[str] = "rwood.method.losses:Cider"
    name: Literal["cider"] = "cider"
    temperature: _Temperature = 0.1
    """tau, divides every cosine to a prototype."""
    momentum: Share = 0.95
    """alpha, the share of a prototype that every row of its class keeps; 0.5 for CIFAR-100."""
    compactness_weight: NotNegative = 2.0
    """w, weight of rows near their prototype against prototypes far from each other."""


class PalmLoss(LossConfig):
    """PALM (Lu et al., ICLR 2024); the defaults are the authors' settings for CIFAR-100.

    Its prototypes follow the rows of the global batch, so that it has no local scope.
    """

    part: ClassVar[str] = "rwood.method.losses:Palm"
    name: Literal["palm"] = "palm"
    temperature: _Temperature = 0.1
    """tau, divides every cosine of a row to a prototype."""
    prototype_temperature: _Temperature = 0.5
    """tau of the contrast between prototypes."""
    prototypes_per_class: Annotated[int, Field(ge=1, le=1000)] = 6
    """K, prototypes of one class."""
    top_k: Annotated[int, Field(ge=1)] = 5
    """Prototypes of its class that a row counts for; all of them where there are no more."""
    momentum: Share = 0.999
    """alpha, the share of a prototype that a batch leaves; 0.9 for CIFAR-10."""
    contrast_weight: NotNegative = 1.0
    """lambda, weight of the contrast between prototypes."""
    epsilon: Annotated[Number, Field(ge=0.01, le=10)] = 0.05
    """Smoothness of the assignment of rows to prototypes."""


class CrossEntropyLoss(LossConfig):
    """A classifier on the same backbone, trained by cross-entropy.

    It sees the two views of every image as the other losses do, as two rows of one batch: the same
    pixels, passes and steps. An epoch is thus two epochs of the usual recipe with one view.
    """

    part: ClassVar[str] = "rwood.method.losses:CrossEntropy"
    is_classifier: ClassVar[bool] = True
    name: Literal["cross_entropy"] = "cross_entropy"
    label_smoothing: Annotated[Number, Field(ge=0, lt=1)] = 0.0
    """Share of a target spread evenly over all classes."""


LOSSES: Mapping[str, type[LossConfig]] = {
    "reweightood": ReweightOODLoss,
    "supcon": SupConLoss,
    "cider": CiderLoss,
    "palm": PalmLoss,
    "cross_entropy": CrossEntropyLoss,
}
"""Our losses by name."""


@lru_cache
def loss_kind(name: str) -> type[LossConfig]:
    """The settings of a loss.

    Raises:
        ValueError: there is no loss of this name, or it cannot be imported.
    """
    if name in LOSSES:
        return LOSSES[name]
    found = find("losses", name, tuple(LOSSES))
    kind = settings_of(found, name, LossConfig, GIVEN)
    kind.is_classifier = bool(getattr(found[0], "is_classifier", False))
    return kind


def load_loss(plain: Any) -> Any:
    """A loss from plain settings; see `registry.read`."""
    return read(plain, loss_kind, "reweightood")


AnyLoss = Annotated[SerializeAsAny[LossConfig], BeforeValidator(load_loss)]
"""A loss in a run."""

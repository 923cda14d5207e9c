"""One training run: network, loss, optimiser, schedule, views. A run has one seed."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator

from rwood.config.backbones import AnyModel, dim_of
from rwood.config.base import Config, NotNegative, Number, Positive, Seed, Share
from rwood.config.losses import AnyLoss, ReweightOODLoss
from rwood.config.scorers import CLASSIFIER_SCORERS, AnyScorer, ScorerConfig


class OptimizerConfig(Config):
    """Stochastic gradient descent."""

    lr: Positive = 0.1
    """Learning rate before the schedule."""
    momentum: Annotated[Number, Field(ge=0, lt=1)] = 0.9
    """Momentum."""
    weight_decay: NotNegative = 1e-4
    """L2 penalty on every parameter, biases and batch norm included."""
    nesterov: bool = True
    """Nesterov's form of momentum, where there is momentum."""


class ScheduleConfig(Config):
    """The learning rate over a run."""

    decay: Literal["cosine", "step"] = "cosine"
    """`cosine` to lr x 0.1^3; `step`: x 0.1 at each milestone."""
    milestones: tuple[int, ...] = (50, 75, 90)
    """Epochs at which `step` decays."""
    warmup: Literal["fixed", "reference", "none"] = "fixed"
    """`reference` is the authors' schedule, whose first epoch has a negative rate."""
    warmup_epochs: int = Field(default=10, ge=1)
    """Length of the warm-up."""
    warmup_from: Positive = 0.001
    """Rate at which the warm-up starts."""


class ViewsConfig(Config):
    """How a training image becomes two random views."""

    crop_scale: tuple[Share, Share] = (0.2, 1.0)
    """Area of a random resized crop, as a share of the image's."""
    crop_ratio: tuple[Positive, Positive] = (0.75, 4 / 3)
    """Width over height of the crop."""
    flip: Share = 0.5
    """Probability of a horizontal flip."""
    jitter: Share = 0.8
    """Probability that the colour jitter is applied."""
    brightness: Share = 0.4
    """Factor drawn from [1 - b, 1 + b]."""
    contrast: Share = 0.4
    """Factor drawn from [1 - c, 1 + c]."""
    saturation: Share = 0.4
    """Factor drawn from [1 - s, 1 + s]; 0 for grey images."""
    hue: Annotated[Number, Field(ge=0, le=0.5)] = 0.1
    """Shift drawn from [-h, h] turns; 0 for grey images."""
    grayscale: Share = 0.2
    """Probability that the colours are dropped."""

    @model_validator(mode="after")
    def _ordered(self) -> "ViewsConfig":
        for field in ("crop_scale", "crop_ratio"):
            low, high = getattr(self, field)
            if low > high or low <= 0:
                raise ValueError(f"{field} needs 0 < low <= high, got [{low}, {high}]")
        return self


class RunConfig(Config):
    """One training run and how its embedding is scored."""

    model: AnyModel
    loss: AnyLoss = ReweightOODLoss()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    views: ViewsConfig = ViewsConfig()
    scorer: AnyScorer = ScorerConfig()
    seed: Seed = 0
    """Seeds weights, order and views."""
    epochs: int = Field(ge=1, le=100_000)
    """Passes over the ID train set."""
    batch_size: int = Field(default=512, ge=2)
    """Images a step over all workers, two views each."""
    validate_every: int = Field(default=1, ge=1)
    """Epochs between validations; the last epoch is always validated."""
    checkpoint: Literal["last", "lowest_loss"] = "last"
    """Weights validated and scored: the last, or of the lowest smoothed loss as the authors do."""
    precision: Literal["float32", "bfloat16", "float16", "auto"] = "float32"
    """Arithmetic of the backbone; head, losses and scores are float32 or wider in any case.

    `auto`: float16 with a loss scale on a GPU; on a CPU that multiplies bfloat16 the faster of it
    and float32, timed when a run starts and kept when it resumes; elsewhere float32.
    """
    compile: bool | Literal["auto"] = "auto"
    """Compile the network, once a process for all its trials; `auto`: on a GPU, views too.

    On a GPU a run without other workers then replays its steps from CUDA graphs, if loss and
    backbone are ours and the loss keeps no prototypes. Where torch cannot, a note says why.
    """

    @property
    def warmup_ends(self) -> int:
        """Last epoch of the learning rate's warm-up, 1-based; 0 without one (see `schedule`)."""
        length = self.schedule.warmup_epochs
        ends = {"fixed": min(length, self.epochs // 2), "reference": length + 1, "none": 0}
        return ends[self.schedule.warmup]

    @property
    def is_classifier(self) -> bool:
        """Whether the run trains a classifier, which has logits."""
        return self.loss.is_classifier

    @model_validator(mode="after")
    def _scorable(self) -> "RunConfig":
        if self.scorer.name in CLASSIFIER_SCORERS and not self.is_classifier:
            raise ValueError(no_logits("scorer.name", self.scorer.name, self.loss.name))
        dim = dim_of(self.model)
        if self.scorer.name == "vim" and dim is not None and (self.scorer.dims or 1) >= dim:
            raise ValueError(
                f"scorer.dims: {self.scorer.dims} leaves vim no residual, since an embedding of "
                f"model.backbone {self.model.backbone} has {dim} dims"
            )
        return self


def no_logits(key: str, scorer: str, loss: str) -> str:
    """Why a scorer cannot be had after a loss, and what to change."""
    return (
        f"{key}: {scorer} scores the logits of a classifier, and a run with loss.name {loss} has "
        "none; set loss.name to cross_entropy or choose another scorer"
    )


def what_trains(run: Mapping[str, object]) -> dict[str, object]:
    """Settings of a run, as plain JSON, that decide its weights: not whether it is compiled."""
    return {**run, "compile": False}

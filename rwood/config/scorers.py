"""How an embedding becomes a score: our scorers' settings, and scorers of other people by name."""

import itertools
from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_args

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, SerializeAsAny, Tag

from rwood.config.base import NotNegative, Number, Share
from rwood.config.benchmark import Metric
from rwood.config.registry import PartConfig, find, read, settings_of

GIVEN = frozenset({"classes"})
"""Parameters of a scorer that rwood fills in: the number of ID classes."""
ScorerName = Literal[
    "mahalanobis",
    "mahalanobis_raw",
    "knn",
    "rmds",
    "rmds_unit",
    "ssd",
    "cosine",
    "msp",
    "energy",
    "vim",
    "head_mls",
    "head_gen",
    "head_fdbd",
    "head_nci",
    "head_sum",
]
SCORERS: tuple[str, ...] = get_args(ScorerName)
"""Our scorers by name."""
CLASSIFIER_SCORERS: frozenset[str] = frozenset({"msp", "energy", "vim"})
"""Scorers that need a classifier's last layer."""
RAW_SCORERS: frozenset[str] = CLASSIFIER_SCORERS | {"mahalanobis_raw", "rmds"}
"""Scorers that see the backbone's output as it is, as OpenOOD has them; the others unit rows."""


CHOSEN: dict[str, tuple[str, ...]] = {
    "knn": ("k",),
    "mahalanobis": ("shrinkage",),
    "mahalanobis_raw": ("shrinkage",),
    "rmds": ("shrinkage",),
    "rmds_unit": ("shrinkage",),
    "head_gen": ("gamma",),
    "head_nci": ("alpha",),
    "head_sum": ("weight", "shrinkage"),
}
"""The settings of a scorer that validation sets may choose."""


def _one_or_several(value: Any) -> str:
    return "several" if isinstance(value, list | tuple) else "one"


T = TypeVar("T")
OneOrSeveral = Annotated[
    Annotated[T, Tag("one")] | Annotated[tuple[T, ...], Field(min_length=1), Tag("several")],
    Discriminator(_one_or_several),
]
"""A value, or several of which the validation sets choose one."""
_Neighbour = Annotated[int, Field(ge=1)]


class ScorerConfig(PartConfig):
    """How an embedding becomes a score (higher = more OOD)."""

    sees_raw: ClassVar[bool] = False
    """Whether other people's scorer sees the backbone's output as it is, and not unit rows."""
    name: str = "mahalanobis"
    """Which scorer: one of ours, of an entry point `rwood.scorers`, or `package.module:Class`.

    `mahalanobis` (elsewhere Mahalanobis++), `rmds_unit`, `knn`, `ssd` and `cosine` see unit rows;
    `mahalanobis_raw` (OpenOOD's mds) and `rmds` see the backbone's output as it is; `msp`, `energy`
    and `vim` need a classifier. `head_mls`, `head_gen`, `head_fdbd` and `head_nci` ask a linear
    head that is fitted on unit rows, whatever trained them; `head_sum` adds `head_mls` and
    `mahalanobis`.
    """
    k: OneOrSeveral[_Neighbour] = 50
    """Neighbour counted by `knn`; of several the validation sets choose one."""
    shrinkage: OneOrSeveral[Share] = 0.0
    """Share of a covariance that becomes a multiple of the identity; of several one is chosen.

    For `mahalanobis*`, `rmds*` and `head_sum`.
    """
    select_by: Metric = "auroc"
    """Mean over the validation sets that chooses among several."""
    rtol: NotNegative | None = None
    """Eigenvalues up to rtol x the largest are dropped; default d x 2.2e-16 as in OpenOOD."""
    dims: int | None = Field(default=None, ge=1)
    """Principal directions left out of `vim`'s residual; default: 1000 of 2048 or more as in
    OpenOOD, else half."""

    def __reduce__(self) -> tuple[Any, ...]:
        """By name and values: other people's settings are made when they are read."""
        return (load_scorer, (self.model_dump(mode="json"),))

    @property
    def is_raw(self) -> bool:
        """Whether it sees the backbone's output as it is, and not unit rows."""
        return self.sees_raw or self.name in RAW_SCORERS

    @property
    def several(self) -> dict[str, tuple[Any, ...]]:
        """Settings of ours that are left to choose, with their values."""
        ours = {name for names in CHOSEN.values() for name in names}
        return {k: v for k, v in self if k in ours and isinstance(v, tuple)}

    def candidates(self) -> list["ScorerConfig"]:
        """The scorer with each choice of its settings; of one that it has no use for, the first."""
        settled = {name: values[0] for name, values in self.several.items()}
        used = [name for name in CHOSEN.get(self.name, ()) if name in settled]
        return [
            self.model_copy(update=settled | dict(zip(used, choice, strict=True)))
            for choice in itertools.product(*(self.several[name] for name in used))
        ]

    @property
    def chosen(self) -> dict[str, float]:
        """The settings that validation sets choose, settled: name -> value."""
        return {name: float(getattr(self, name)) for name in CHOSEN.get(self.name, ())}

    @property
    def shared(self) -> dict[str, Any]:
        """The settings that every scorer has, as plain JSON."""
        return self.model_dump(mode="json", include=set(ScorerConfig.model_fields))

    def named(self, name: str) -> "ScorerConfig":
        """Another scorer with the settings that every scorer has; itself under its own name.

        Raises:
            pydantic.ValidationError: there is none of this name.
        """
        other: ScorerConfig = load_scorer({**self.shared, "name": name})
        return self if name == self.name else other


class HeadGen(ScorerConfig):
    """Generalised entropy of a linear head."""

    name: Literal["head_gen"] = "head_gen"
    gamma: OneOrSeveral[Annotated[Number, Field(gt=0, le=1)]] = 0.1
    """Power of p (1 - p); the smaller, the more small probabilities count."""
    top: int = Field(default=100, ge=1)
    """Largest probabilities that count; of fewer classes, all."""


class HeadNci(ScorerConfig):
    """Neural-collapse-inspired score of a linear head."""

    name: Literal["head_nci"] = "head_nci"
    alpha: OneOrSeveral[NotNegative] = 1e-3
    """Weight of the embedding's 1-norm."""


class HeadSum(ScorerConfig):
    """`head_mls` plus a weighted `mahalanobis`, each standardised on ID val."""

    name: Literal["head_sum"] = "head_sum"
    weight: OneOrSeveral[NotNegative] = 1.0
    """Weight of the distance beside the confidence."""


KINDS: Mapping[str, type[ScorerConfig]] = {
    "head_gen": HeadGen,
    "head_nci": HeadNci,
    "head_sum": HeadSum,
}
"""Our scorers with settings of their own."""


@lru_cache
def scorer_kind(name: str) -> type[ScorerConfig]:
    """The settings of a scorer.

    Raises:
        ValueError: there is no scorer of this name, or it cannot be imported.
    """
    if name in SCORERS:
        return KINDS.get(name, ScorerConfig)
    found = find("scorers", name, SCORERS)
    kind = settings_of(found, name, ScorerConfig, GIVEN)
    kind.sees_raw = bool(getattr(found[0], "sees_raw", False))
    return kind


def load_scorer(plain: Any) -> Any:
    """A scorer from plain settings; see `registry.read`."""
    return read(plain, scorer_kind, "mahalanobis")


def known_scorer(name: str) -> str:
    """The name, if there is such a scorer.

    Raises:
        ValueError: there is none, or it has a setting without a default.
    """
    load_scorer({"name": name})
    return name


AnyScorer = Annotated[SerializeAsAny[ScorerConfig], BeforeValidator(load_scorer)]
"""A scorer in a run or a result."""
AnyScorerName = Annotated[str, AfterValidator(known_scorer)]
"""The name of a scorer with its own settings' defaults."""

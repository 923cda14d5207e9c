"""What a detector is measured on: the ID set, validation OOD, near, far and shifted sets."""

from typing import Annotated, Any, Literal, get_args

from pydantic import Discriminator, Field, Tag, model_validator

from rwood.config.base import Config, Number
from rwood.config.folds import folds
from rwood.text import count_of

Metric = Literal["fpr95", "auroc", "aupr_in", "aupr_out"]
METRICS: tuple[Metric, ...] = ("fpr95", "auroc", "aupr_in", "aupr_out")
MINIMIZED: frozenset[str] = frozenset({"fpr95", "loss"})
"""Metrics of which less is better."""


DerivedKind = Literal["permuted", "blobs", "jigsaw", "mixed"]
DERIVED: tuple[DerivedKind, ...] = get_args(DerivedKind)


class FolderSet(Config):
    """Images of one's own in plain folders: `<folder>/<class>/<file>`."""

    folder: str = Field(min_length=1)
    """Path below the data root, or absolute."""


class ListSet(Config):
    """Images named by a list in OpenOOD's form: `<relative path> <label>` a line."""

    list: str = Field(min_length=1)
    """Path of the list below the data root, e.g. `benchmark_imglist/cifar10/test_tin.txt`."""
    images: str = Field(min_length=1)
    """Folder below the data root that the list's paths start from, e.g. `images_classic`."""


def _kind_of_set(value: Any) -> str:
    """Which of the kinds a value was meant to be, so that an error speaks of that one."""
    if isinstance(value, Config):
        return type(value).__name__
    if isinstance(value, dict):
        keys = {
            "of": "SubsetSet",
            "list": "ListSet",
            "derived": "DerivedSet",
            "held_out": "HeldOutSet",
        }
        return next((kind for key, kind in keys.items() if key in value), "FolderSet")
    return "named"


_Named = Annotated[str, Field(min_length=1), Tag("named")]
_Folder = Annotated[FolderSet, Tag("FolderSet")]
_List = Annotated[ListSet, Tag("ListSet")]
WholeSetRef = Annotated[_Named | _Folder | _List, Discriminator(_kind_of_set)]
"""A named image set (`rwood data list` shows the names), or one's own folder or list."""


class SubsetSet(Config):
    """Some images of a set, always the same ones: as many of each class as of any other."""

    of: WholeSetRef
    """The set they are drawn from."""
    images: int = Field(ge=1)
    """How many; no other file of the set is opened."""


_Subset = Annotated[SubsetSet, Tag("SubsetSet")]


class DerivedSet(Config):
    """A validation OOD set that is made of the images of `id.val`, so that it needs no other."""

    derived: DerivedKind
    """How they are changed: pixels permuted, laid out as blobs, cut into a jigsaw; two mixed."""


class HeldOutSet(Config):
    """A validation OOD set of ID classes that a trial does not train on: see `config/held_out`.

    Its images are those of ID train, at most as many as ID val has. It needs no other images.
    """

    held_out: Annotated[Number, Field(gt=0, le=0.5)]
    """Share of the ID classes that a trial leaves out; its seed says which."""


class ClassesSet(Config):
    """The images of some classes of an ID set; `fold_of` makes it, no file can name it."""

    of: Annotated[_Named | _Folder | _List | _Subset, Discriminator(_kind_of_set)]
    """The set they are taken from."""
    classes: tuple[int, ...]
    """Its labels, ascending; they become 0, 1, ... in this order."""
    among: int
    """Number of classes of `of`."""


ImageSetRef = Annotated[
    _Named
    | _Folder
    | _List
    | _Subset
    | Annotated[DerivedSet, Tag("DerivedSet")]
    | Annotated[HeldOutSet, Tag("HeldOutSet")]
    | Annotated[ClassesSet, Tag("ClassesSet")],
    Discriminator(_kind_of_set),
]
"""A whole image set, a part of one, or a validation set made of ID images."""


def whole_set(ref: ImageSetRef) -> WholeSetRef | DerivedSet | HeldOutSet:
    """The set that a reference draws from: itself, unless it is a part of one."""
    if isinstance(ref, ClassesSet):
        return whole_set(ref.of)
    return ref.of if isinstance(ref, SubsetSet) else ref


OODSets = dict[Annotated[str, Field(pattern=r"^[a-z0-9_]+$")], ImageSetRef]


class IDSets(Config):
    """The in-distribution set, in three disjoint parts."""

    train: ImageSetRef
    """Trains the encoder and fits the scorer."""
    val: ImageSetRef
    """Stands for ID while a study selects."""
    test: ImageSetRef
    """Stands for ID in the benchmark, opened by nothing else."""


class BenchmarkConfig(Config):
    """One ID set and the OOD sets it is measured against."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    """Names results and packs."""
    published: str | None = None
    """`id_set` of the published tables to stand beside, if any."""
    classes: int = Field(ge=2)
    """Number of ID classes; labels are 0..classes-1."""
    channels: Literal[1, 3] = 3
    """1 = grey, 3 = RGB; images are converted."""
    image_size: int = Field(ge=4)
    """Height and width of the encoder's input, in pixels."""
    resize: int | None = Field(default=None, ge=4)
    """Shorter side, in pixels, before the centre crop of a scored image; default image_size."""
    mean: tuple[Number, ...]
    """Mean of each channel, of values in [0, 1]."""
    std: tuple[Annotated[Number, Field(gt=0)], ...]
    """Standard deviation of each channel, of values in [0, 1]."""
    id: IDSets
    """The in-distribution set."""
    validation: OODSets = Field(min_length=1)
    """OOD sets that a search may see."""
    near: OODSets = Field(min_length=1)
    """Test OOD sets close to the ID set."""
    far: OODSets = Field(min_length=1)
    """Test OOD sets far from the ID set."""
    shifted: OODSets = Field(default_factory=dict)
    """Covariate-shifted ID sets, pooled with the ID test set under `protocol: fsood`."""

    @model_validator(mode="after")
    def _consistent(self) -> "BenchmarkConfig":
        for field in ("mean", "std"):
            if len(getattr(self, field)) != self.channels:
                raise ValueError(f"{field} needs {count_of(self.channels, 'value')}, one a channel")
        both = self.near.keys() & self.far.keys()
        if both:
            raise ValueError(f"{sorted(both)[0]} is both a near and a far set")
        parts = {"near": self.near, "far": self.far, "shifted": self.shifted, "id": dict(self.id)}
        references = {f"{part}.{n}": ref for part, sets in parts.items() for n, ref in sets.items()}
        for key, ref in references.items():
            if isinstance(ref, DerivedSet):
                raise ValueError(
                    f"{key}: a derived set is made of id.val, which selects; it belongs under "
                    "validation"
                )
            if isinstance(ref, HeldOutSet):
                raise ValueError(
                    f"{key}: held-out classes are ID images, which select; they belong under "
                    "validation"
                )
        return self

    @model_validator(mode="after")
    def _foldable(self) -> "BenchmarkConfig":
        held_out = {n: r for n, r in self.validation.items() if isinstance(r, HeldOutSet)}
        if len(held_out) > 1:
            raise ValueError(
                f"validation: {' and '.join(held_out)} are held out; a trial leaves out one fold "
                "of classes, so keep one of them"
            )
        for name, ref in held_out.items():
            try:
                folds(self.classes, ref.held_out)
            except ValueError as error:
                raise ValueError(f"validation.{name}.held_out: {error}") from None
        return self


NEAR_LIKE, FAR_LIKE, HELD_OUT = "near-like", "far-like", "held-out"
"""Families of the validation sets that are made of ID images."""


def families_of(benchmark: BenchmarkConfig) -> dict[str, tuple[str, ...]]:
    """Validation sets that ask the same of a detector, so that none counts for more by its number.

    On digits `mixed` images and held-out classes rank settings as near test sets do, the other
    derived sets as far ones do; a real set is a family of its own under its own name. The ranks are
    measured in `studies/validation/README.md`, and why the families are these.

    Returns:
        Family -> names of its sets, both in the order of the file.

    Example:
        `{mixed, digit7, jigsaw, blobs}` are `near-like: (mixed,)`, `digit7: (digit7,)` and
        `far-like: (jigsaw, blobs)`.
    """
    families: dict[str, tuple[str, ...]] = {}
    for name, ref in benchmark.validation.items():
        family = name
        if isinstance(ref, HeldOutSet):
            family = HELD_OUT
        elif isinstance(ref, DerivedSet):
            family = NEAR_LIKE if ref.derived == "mixed" else FAR_LIKE
        families[family] = (*families.get(family, ()), name)
    return families

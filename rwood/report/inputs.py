"""What a report is made of: a study's results, importances, score samples, an embedding picture."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rwood.config.study import StudyConfig
from rwood.errors import StudyError
from rwood.report.hyperparameters import hyperparameters
from rwood.results import RunResult, StudyResult, TrialResult

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.floating]

ACCEPTED = 0.95
"""Share of the ID validation images that the verdict's threshold accepts."""
_TSNE_FROM = 60
"""Points from which t-SNE shows more than two principal components do."""
_TSNE_TURNS = 500
"""Half of scikit-learn's: what lies near what is settled by then (the trustworthiness of ten
neighbours is the same to .001 for 756 to 3,500 points)."""


@dataclass(frozen=True)
class ScoreSamples:
    """Scores of one run, higher = more OOD."""

    id: Array
    """(n,) scores of the ID test set."""
    near: dict[str, Array]
    """Near OOD set -> (n,) scores."""
    far: dict[str, Array]
    """Far OOD set -> (n,) scores."""
    threshold: float | None = None
    """Scores above it are called OOD; it accepts 95 % of the ID validation images."""


@dataclass(frozen=True)
class EmbeddingPicture:
    """Embeddings laid out in the plane."""

    points: Array
    """(n, 2) coordinates, without a unit."""
    groups: tuple[str, ...]
    """Name of each point's set: `ID`, `near: <set>` or `far: <set>`."""
    classes: tuple[int, ...]
    """ID class of each point, -1 for OOD."""
    method: str
    """`PCA` or `t-SNE`."""


@dataclass(frozen=True)
class ReportInputs:
    """Everything that a report shows; nothing of it is computed on a device."""

    study: StudyResult
    config: StudyConfig
    importance: dict[str, float]
    """Searched setting -> share of the objective's variance (fANOVA); empty: left out."""
    scores: dict[str, ScoreSamples]
    """Label (`champion`, `base`) -> scores of its first seed; empty: left out."""
    importance_note: str = ""
    """What the importance was measured on, or why there is none."""
    embedding: EmbeddingPicture | None = None
    """The first seed of the champion; None: left out."""

    @property
    def objective(self) -> str:
        """Name of the study's first objective; empty without a search."""
        return self.study.objective or ""

    @property
    def trials(self) -> list[TrialResult]:
        """Trials of the present space, which figures show: others may have no place on an axis."""
        return [trial for trial in self.study.trials if not trial.outside]

    @property
    def champion_is_base(self) -> bool:
        """Whether the champion has the base run's value of every searched setting."""
        chosen = self.study.champion_params
        return all(
            chosen.get(parameter.key, parameter.base) == parameter.base
            for parameter in hyperparameters(self.config)
        )

    @property
    def label(self) -> str:
        """Whose figures come first: the champion's, or the base run's where nothing was chosen."""
        return "champion" if self.study.of("champion") or not self.study.of("base") else "base"

    @property
    def whose(self) -> str:
        """The runs that come first, in words."""
        searched = self.config.search is not None and self.label == "champion"
        return "the champion" if searched else "the base run"

    @property
    def groups(self) -> dict[str, list[RunResult]]:
        """Name in figures -> reruns to draw: those that come first, and the base run's beside."""
        groups = {self.whose.removeprefix("the "): self.runs}
        return groups | ({"base run": self.base_runs} if self.base_runs else {})

    @property
    def runs(self) -> list[RunResult]:
        """Reruns that come first."""
        return self.study.of(self.label)

    @property
    def base_runs(self) -> list[RunResult]:
        """Reruns of the base run, to stand beside the champion's; none where they are the same."""
        base = self.study.of("base") if self.label == "champion" else []
        return [] if {run.digest for run in base} <= {run.digest for run in self.runs} else base


def load_scores(path: Path) -> ScoreSamples:
    """Read a run's `scores.npz`: arrays `id/test`, `id/val`, `near/<set>`, `far/<set>`.

    Raises:
        StudyError: the file cannot be read or has no `id/test`.
    """
    import numpy as np

    arrays = load_arrays(path)
    threshold = None
    if arrays.get("id/val", np.empty(0)).size:
        threshold = float(np.quantile(arrays["id/val"], ACCEPTED, method="inverted_cdf"))
    return ScoreSamples(
        id=arrays["id/test"],
        near=_below(arrays, "near/"),
        far=_below(arrays, "far/"),
        threshold=threshold,
    )


def project_embeddings(path: Path) -> EmbeddingPicture:
    """Lay out a run's `embeddings.npz` in the plane by PCA, then t-SNE where points suffice.

    Args:
        path: arrays `id/test` (n, d), `id/test_labels` (n,), `near/<set>` and `far/<set>` (n, d).

    Raises:
        StudyError: the file cannot be read or has no `id/test`.
    """
    import numpy as np
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    arrays = load_arrays(path)
    sets = {"ID": arrays["id/test"]}
    for part in ("near", "far"):
        sets |= {f"{part}: {name}": rows for name, rows in _below(arrays, f"{part}/").items()}
    rows = np.concatenate(list(sets.values())).astype(np.float64)
    count, width = rows.shape
    classes = np.full(count, -1)
    labels = arrays.get("id/test_labels", np.empty(0))
    classes[: len(labels)] = labels
    enough = count >= _TSNE_FROM
    points = PCA(min(30 if enough else 2, width, count), random_state=0).fit_transform(rows)
    if enough:
        with threadpool_limits(1):  # several threads spin for minutes where cores are shared
            near = min(30, count / 4)
            tsne = TSNE(2, init="pca", perplexity=near, max_iter=_TSNE_TURNS, random_state=0)
            points = tsne.fit_transform(points)
    return EmbeddingPicture(
        points=points,
        groups=tuple(name for name, block in sets.items() for _ in range(len(block))),
        classes=tuple(classes.tolist()),
        method="t-SNE" if enough else "PCA",
    )


def load_arrays(path: Path) -> dict[str, Array]:
    """Every array of a run's `scores.npz` or `embeddings.npz`, by name.

    Raises:
        StudyError: the file cannot be read or has no `id/test`.
    """
    import numpy as np

    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as zipped:
            arrays = {name: zipped[name] for name in zipped.files}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise StudyError(f"{path}: cannot be read as arrays ({error})", file=str(path)) from error
    if not arrays.get("id/test", np.empty(0)).size:
        raise StudyError(f"{path}: has no array id/test", file=str(path))
    return arrays


def _below(arrays: dict[str, Array], part: str) -> dict[str, Array]:
    return {k.removeprefix(part): v for k, v in arrays.items() if k.startswith(part) and v.size}

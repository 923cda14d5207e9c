"""What comes out: trials, reruns, benchmarks, studies; JSON both ways.

Scores are higher = more OOD. Metrics are in percent, named `<part>/<set>/<metric>`.
"""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from rwood.config.benchmark import METRICS
from rwood.config.scorers import AnyScorer
from rwood.config.search import Params
from rwood.errors import StudyError
from rwood.storage import content, written

TrialState = Literal["running", "complete", "pruned", "failed"]
FailureKind = Literal["setting", "environment"]
"""Whose fault a failure is: the trial's own settings, or the machine, the data or the network."""


class Record(BaseModel):
    """Something that happened; cannot be changed."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class EpochReport(Record):
    """What one epoch of a run reported."""

    epoch: int
    """1-based: epochs done."""
    time: float
    """Unix seconds at which the epoch ended."""
    metrics: dict[str, float]
    """By name, e.g. `train/loss`, `val/digit7/auroc`, `val/auroc`, `sys/images_per_s`."""


class Training(Record):
    """One finished training."""

    label: str
    """`champion`, `base`, or `trial-0007`."""
    seed: int
    digest: str
    """Names the training by content."""
    history: tuple[EpochReport, ...]
    seconds: float
    """Training and what measured it, without waiting."""


class RunResult(Training):
    """One finished training and its benchmark."""

    run: dict[str, object]
    """Its settings, as plain JSON."""
    tables: dict[str, "BenchmarkTable"]
    """`<protocol>/<scorer>` -> the OOD sets' metrics."""
    scorers: tuple[AnyScorer, ...] = ()
    """The scorers of the tables, with the settings used, the run's own first."""
    test_sets: str = ""
    """Names the test sets of the tables by content."""
    id_metrics: dict[str, float]
    """Accuracy of the embedding on the ID test set, in percent: `linear_probe`, `nearest_mean`."""


class SetMetrics(Record):
    """The four metrics of one OOD set, in percent. FPR@95 counts OOD as positive (OpenOOD)."""

    fpr95: float
    auroc: float
    aupr_in: float
    aupr_out: float


class BenchmarkTable(Record):
    """One run's metrics on every test OOD set."""

    near: dict[str, SetMetrics]
    far: dict[str, SetMetrics]

    def rows(self) -> dict[str, SetMetrics]:
        """Rows in OpenOOD's order: near sets, `nearood`, far sets, `farood`."""
        near, far = mean_of(self.near.values()), mean_of(self.far.values())
        return {**self.near, "nearood": near, **self.far, "farood": far}


class TrialResult(Record):
    """One trial of a search."""

    number: int
    params: Params
    state: TrialState
    digest: str
    started: float
    """Unix seconds."""
    finished: float | None = None
    history: tuple[EpochReport, ...] = ()
    objective: float | None = None
    """Value of the study's first objective after the last epoch; None unless complete."""
    objectives: dict[str, float] = {}
    """Every objective after the last epoch, by name; empty unless complete."""
    spread: dict[str, float] = {}
    """Objective -> population std over the trial's seeds; empty for one seed."""
    error: str | None = None
    """Why it failed, in one line."""
    failure: FailureKind | None = None
    """Whose fault that was."""
    outside: bool = False
    """The search space changed and holds it no longer: it counts for nothing."""


class FinalsRun(Training):
    """One training of the finals, measured on validation sets only."""

    @property
    def metrics(self) -> dict[str, float]:
        """Of the last epoch."""
        return self.history[-1].metrics


class Comparison(Record):
    """Finalist minus base run over paired seeds, against a limit that a bound has to exceed."""

    mean: float
    std: float
    """Sample standard deviation of the differences (n - 1)."""
    bound: float
    """Lower bound of the mean difference at confidence 1 - alpha; the mean without variance."""
    limit: float
    seeds: int
    alpha: float
    passed: bool


class FinalsResult(Record):
    """The finals of a study so far."""

    candidates: dict[int, Params]
    """Trials that race, the best of the search first, with their settings."""
    rules: dict[str, object] = {}
    """The section `finals` that they follow, as plain JSON."""
    race: dict[int, tuple[float, ...]] = {}
    """Trial -> its objective on each seed of the race."""
    finalist: int | None = None
    """The race's winner."""
    confirmation: dict[str, tuple[float, ...]] = {}
    """`finalist` and `base` -> the objective on each seed of the confirmation."""
    seeds: tuple[int, ...] = ()
    """Of the confirmation."""
    objective: str = ""
    """What the numbers of the race and the confirmation are, and that higher is better."""
    promoted: bool | None = None
    """None while it is open."""
    sentence: str = ""
    """The verdict."""
    gate: Comparison | None = None
    guard: dict[str, Comparison] = {}
    """Family of validation sets -> its difference in points."""
    notes: tuple[str, ...] = ()
    """What else there is to say, e.g. of families that do not count."""


class Change(Record):
    """A setting of search, finals or cluster that is another than in the start before."""

    trials: int
    """Trials that there were before."""
    key: str
    """Dotted setting."""
    before: object
    after: object


class StudyResult(Record):
    """A study so far."""

    name: str
    id: str
    """Drawn when the study first started; names its runs in MLflow."""
    objective: str | None
    """Metric optimised, the first of several; None without a search."""
    objectives: tuple[str, ...] = ()
    """All metrics optimised."""
    trial_digest: str
    """What must not change for the study to go on."""
    storage: str | None = None
    """Address of Optuna's storage, without its password; None: a journal in the results folder."""
    changes: tuple[Change, ...] = ()
    """What changed between two starts."""
    finished: str | None = None
    """Digest of the whole config once nothing was left to do for it."""
    config: dict[str, object]
    """The resolved study, as plain JSON."""
    trials: tuple[TrialResult, ...] = ()
    champion: int | None = None
    """Trial number; None before selection or without a search."""
    front: tuple[int, ...] = ()
    """Numbers of the trials that no other trial dominates; the champion alone if one objective."""
    champion_params: Params = {}
    finals: FinalsResult | None = None
    """None before the finals or without them."""
    runs: tuple[RunResult, ...] = ()
    """Reruns: champion, then those of trials, and base."""
    earlier: tuple[tuple[RunResult, ...], ...] = ()
    """The same reruns, without their epochs, as each benchmark on other test sets left them."""
    wall_seconds: dict[str, float] = {}
    """Stage -> seconds spent in it, over all starts."""
    versions: dict[str, str] = {}
    """Packages, Python, git commit, device."""

    @property
    def trainings_per_trial(self) -> int:
        """One for each of `search.seeds`, or a single one."""
        search = self.config.get("search")
        return len(search.get("seeds", ())) or 1 if isinstance(search, dict) else 1

    def of(self, label: str) -> list[RunResult]:
        """Reruns with a label, by seed."""
        return sorted((r for r in self.runs if r.label == label), key=lambda r: r.seed)


COMPARED = tuple(f"{part}/{metric}" for part in ("near", "far") for metric in METRICS)
"""Metrics of a rerun by which studies are compared, e.g. `near/auroc`."""


@dataclass(frozen=True)
class StudySummary:
    """What a comparison needs to know of one study."""

    name: str
    settings: dict[str, object]
    """Dotted setting -> value, of the champion's run and the study."""
    objective: float | None
    """The champion's, on validation sets."""
    objective_name: str | None
    """E.g. `val/auroc`; None without a search."""
    seeds: dict[int, dict[str, float]]
    """Seed -> metric of `COMPARED` -> percent, of the champion's reruns."""
    seconds: float
    """Of all trials and reruns, added up."""
    gpu_seconds: float
    """GPUs times the seconds that they were held."""
    epochs: int
    """Of all trials and reruns."""
    note: str = ""
    """What a reader should know of where this comes from."""

    def by_seed(self, metric: str) -> dict[int, float]:
        """Seed -> the metric, where it was measured."""
        return {seed: row[metric] for seed, row in sorted(self.seeds.items()) if metric in row}


R = TypeVar("R", bound=Record)


def mean_of(rows: Iterable[SetMetrics]) -> SetMetrics:
    """Plain mean of each metric, as OpenOOD averages its sets."""
    values = list(rows)
    names = SetMetrics.model_fields
    return SetMetrics(**{n: statistics.fmean(getattr(row, n) for row in values) for n in names})


def mean_and_std(values: Sequence[float]) -> tuple[float, float]:
    """Mean and population standard deviation, as OpenOOD prints over runs."""
    return statistics.fmean(values), statistics.pstdev(values)


def save(record: Record, path: Path) -> None:
    """Write a record as JSON; readers see the old file or the new one, never half of one."""
    write_atomically(path, record.model_dump_json(indent=1))


def load(kind: type[R], path: Path) -> R:
    """Read a record back.

    Raises:
        StudyError: the file is not such a record.
    """
    try:
        return kind.model_validate_json(content(path))
    except ValidationError as error:
        raise StudyError(
            f"{path} is not a {kind.__name__} of this version of rwood; move it away to start anew",
            file=str(path),
        ) from error


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that a crash leaves the old one or the new one."""
    with written(path) as file:
        file.write(text.encode("utf-8"))

"""A whole study: benchmark, base run, search, reruns, and where it runs."""

from typing import Annotated, Any

from pydantic import Field, model_validator

from rwood.config.base import Config, NotNegative, Number, Positive, Seed, Seeds, digest
from rwood.config.benchmark import METRICS, MINIMIZED, BenchmarkConfig
from rwood.config.held_out import without_held_out
from rwood.config.losses import loss_kind
from rwood.config.run import RunConfig, no_logits, what_trains
from rwood.config.scorers import CLASSIFIER_SCORERS, AnyScorerName
from rwood.config.search import LOSS, SearchConfig, values_of


class RerunConfig(Config):
    """The benchmark stage: the champion, the base run and, if asked for, trials over seeds."""

    seeds: Annotated[Seeds, Field(min_length=1)] = (1, 2, 3, 4, 5)
    """One training a seed."""
    base: bool = True
    """Rerun the base run too, so that the report can say what the search bought."""
    trials: int = Field(default=0, ge=0)
    """Rerun so many trials too, the first of the search whatever came of them, so that the report
    can say which validation set ranks settings as the test sets do. Wants `sampler: random`."""
    scorers: tuple[AnyScorerName, ...] = ()
    """Scorers to report beside the run's own."""
    fsood: bool = False
    """Report full-spectrum OOD detection too: shifted ID sets count as ID."""


class FinalsConfig(Config):
    """The finals: is the search's best setting better than the base run, on validation sets?

    The best settings race on fresh seeds; the winner and the base run are trained with more, and
    the winner becomes champion only if it is shown to be better and loses on no family of sets.
    """

    candidates: int = Field(default=3, ge=1)
    """Settings that race: the best trials that are not the base run."""
    race_seeds: int = Field(default=2, ge=1)
    """Trainings of each candidate in the race."""
    confirm_seeds: int = Field(default=5, ge=2)
    """Trainings of the race's winner and of the base run, pair by pair."""
    alpha: Annotated[Number, Field(gt=0, lt=0.5)] = 0.1
    """Chance at which a setting that is no better than the base run is promoted."""
    delta: NotNegative = 0.5
    """Points that the winner may lose on a family of validation sets, on average."""
    first_seed: Seed = 1000
    """Of the race; the other seeds of the finals follow it."""

    @property
    def trainings(self) -> int:
        """Trainings at most: a search may find fewer candidates."""
        raced = self.candidates * self.race_seeds if self.candidates > 1 else 0
        return raced + 2 * self.confirm_seeds

    @property
    def race(self) -> tuple[int, ...]:
        """Seeds of the race."""
        return tuple(range(self.first_seed, self.first_seed + self.race_seeds))

    @property
    def confirmation(self) -> tuple[int, ...]:
        """Seeds of the confirmation."""
        first = self.first_seed + self.race_seeds
        return tuple(range(first, first + self.confirm_seeds))


class ClusterConfig(Config):
    """What one training asks of the cluster. Never changes a result but under a local loss."""

    workers: int = Field(default=1, ge=1)
    """Processes that share one training's batch."""
    cpus_per_worker: int = Field(default=1, ge=1)
    """CPU cores (and torch threads) of a worker."""
    gpus_per_worker: float = Field(default=0, ge=0)
    """GPU of a worker, 0 or 1; a fraction lets several one-worker trials share a GPU."""
    deterministic: bool = False
    """Operations of a GPU that give the same numbers each time, where torch has them; slower."""
    max_concurrent: int = Field(default=2, ge=1)
    """Trainings at a time."""
    retries: int = Field(default=2, ge=0)
    """How often a training whose worker or node died is continued."""
    max_failures: int = Field(default=5, ge=1)
    """Failed trials of one start at which a study gives up."""
    stall_minutes: Positive | None = None
    """A trial that reports nothing for so long is started again from its checkpoint, then failed.

    Default: ten times the median between two reports of the search, at least ten minutes.
    """

    @model_validator(mode="after")
    def _one_gpu_each(self) -> "ClusterConfig":
        if self.gpus_per_worker > 1:
            raise ValueError(
                "gpus_per_worker: a worker computes on one GPU; for several GPUs a training set "
                "workers"
            )
        if self.workers > 1 and 0 < self.gpus_per_worker < 1:
            raise ValueError(
                "gpus_per_worker: the workers of one training cannot share a GPU; a fraction is "
                "for one worker, and several want 1 each"
            )
        return self


class StudyConfig(Config):
    """One study file."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    """Names the results folder and the MLflow experiment."""
    question: str = Field(min_length=1)
    """What the study asks, in a sentence."""
    benchmark: BenchmarkConfig
    """In a file: the path of the benchmark's YAML, from the study's folder."""
    run: RunConfig
    """The base run; it is also the first trial."""
    search: SearchConfig | None = None
    """null: no search, the base run is the champion."""
    finals: FinalsConfig | None = FinalsConfig()
    """Between search and benchmark; null: the champion is the best trial of the search."""
    rerun: RerunConfig = RerunConfig()
    """The benchmark stage."""
    cluster: ClusterConfig = ClusterConfig()
    """Resources."""

    @model_validator(mode="after")
    def _afresh(self) -> "StudyConfig":
        if self.search is None:
            return self
        both = set(self.rerun.seeds) & (set(self.search.seeds) or {self.run.seed})
        if both:
            whose = "among search.seeds" if self.search.seeds else "run.seed, that of every trial"
            raise ValueError(
                f"rerun.seeds: {min(both)} is {whose}: measure the champion on seeds that had no "
                "part in choosing it"
            )
        if self.finals is None:
            return self
        proving = {*self.finals.race, *self.finals.confirmation}
        others = {
            "run.seed": {self.run.seed},
            "search.seeds": set(self.search.seeds),
            "rerun.seeds": set(self.rerun.seeds),
        }
        for key, seeds in others.items():
            if proving & seeds:
                raise ValueError(
                    f"finals.first_seed: the finals use seeds {min(proving)} to {max(proving)}, "
                    f"and {min(proving & seeds)} is {key}'s: prove the champion on seeds that had "
                    "no part in choosing it and measure it on others"
                )
        return self

    @model_validator(mode="after")
    def _rerunnable(self) -> "StudyConfig":
        trials = self.search.trials if self.search else 0
        if self.rerun.trials > trials:
            raise ValueError(
                f"rerun.trials: {self.rerun.trials} trials to rerun, and the search has {trials}"
            )
        if self.rerun.fsood and not self.benchmark.shifted:
            raise ValueError(
                f"rerun.fsood: benchmark {self.benchmark.name} has no covariate-shifted set"
            )
        for name in CLASSIFIER_SCORERS.intersection(self.rerun.scorers):
            for loss in self._losses():
                if not loss_kind(loss).is_classifier:
                    raise ValueError(no_logits("rerun.scorers", name, loss))
        # A scorer's setting is chosen on validation sets, in reruns too, which hold out none.
        has_sets = bool(without_held_out(self.benchmark).validation)
        for field, values in self.run.scorer.several.items():
            if len(values) > 1 and not has_sets:
                raise ValueError(
                    f"run.scorer.{field}: reruns train on all classes and have no held-out set to "
                    "choose among several values; name one value, or add another validation set, "
                    "e.g. {derived: mixed}"
                )
        return self

    @property
    def the_search(self) -> SearchConfig:
        """The search of a study that has one."""
        assert self.search is not None
        return self.search

    def _losses(self) -> list[str]:
        """Names of the losses that a rerun may have."""
        space = self.search.space if self.search else {}
        return [self.run.loss.name, *map(str, values_of(space, LOSS))]

    @property
    def trial_digest(self) -> str:
        """What must not change for trials to stay comparable: what they train and report.

        How a search proposes and stops, in which ranges, how many trials and how many at a time may
        change between two starts; so may the test sets, which no trial sees.
        """
        return trial_digest(self.model_dump(mode="json"))


ID_ACCURACY = "val/nearest_mean"
"""Accuracy of the nearest class mean on ID val, in percent."""
FAMILIES = "val/families"
"""AUROC over families of validation sets, in percent; `families` for short in a study file."""


def objectives(benchmark: BenchmarkConfig) -> list[str]:
    """What a search may optimise: metrics of the validation sets, their means, ID accuracy."""
    sets = [""] + [f"{name}/" for name in benchmark.validation]
    return [f"val/{s}{metric}" for s in sets for metric in METRICS] + [FAMILIES, ID_ACCURACY]


def is_minimized(metric: str) -> bool:
    """Whether less is better for a metric named `<part>/<set>/<metric>`."""
    return metric.rsplit("/", 1)[-1] in MINIMIZED


TEST_SETS = frozenset({"near", "far", "shifted"})
"""Parts of a benchmark that no training sees; nor does it see `id.test`."""


def trial_digest(plain: dict[str, Any]) -> str:
    """Name by content what must not change for trials to stay comparable; see `StudyConfig`."""
    search = {k: v for k, v in (plain["search"] or {}).items() if k in ("objective", "seeds")}
    return digest(_without_tests(plain["benchmark"]), what_trains(plain["run"]), search)


def tested_digest(benchmark: BenchmarkConfig) -> str:
    """Name the test sets of a benchmark by content."""
    return digest(benchmark.model_dump(mode="json", include={*TEST_SETS, "id"}))


def run_digest(run: RunConfig, benchmark: BenchmarkConfig) -> str:
    """Name one training by content: the run, and the sets and pixels that it sees."""
    sets = _without_tests(benchmark.model_dump(mode="json"))
    return digest(what_trains(run.model_dump(mode="json")), sets)


def _without_tests(benchmark: dict[str, Any]) -> dict[str, Any]:
    """A benchmark, as plain JSON, as a training sees it."""
    parts = {k: v for k, v in benchmark.items() if k not in {*TEST_SETS, "published"}}
    return parts | {"id": {k: v for k, v in parts["id"].items() if k != "test"}}

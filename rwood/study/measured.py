"""What reruns were measured on: whether that is what a study asks now, and what it was before."""

from collections.abc import Sequence

from rwood.config.study import StudyConfig, tested_digest
from rwood.report.tables import own_key
from rwood.results import RunResult


def is_measured(run: RunResult, study: StudyConfig) -> bool:
    """True if a rerun has a table of every scorer on the test sets that a study names now."""
    protocols = ("ood", "fsood") if study.rerun.fsood else ("ood",)
    scorers = {own_key(run).partition("/")[2], *study.rerun.scorers}
    wanted = {f"{protocol}/{scorer}" for protocol in protocols for scorer in scorers}
    return wanted <= run.tables.keys() and run.test_sets == tested_digest(study.benchmark)


def superseded(before: Sequence[RunResult], now: Sequence[RunResult]) -> tuple[RunResult, ...]:
    """Results of the same trainings before, without epochs, if other sets or scorers count now."""
    by_training = {(run.label, run.digest): run for run in now}
    pairs = [(run, by_training.get((run.label, run.digest))) for run in before]
    if not any(new and (new.test_sets, new.tables) != (old.test_sets, old.tables)
               for old, new in pairs):  # fmt: skip
        return ()
    return tuple(old.model_copy(update={"history": ()}) for old, new in pairs if new)

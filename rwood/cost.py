"""What a study will cost, from its spec and the table of image sets alone."""

from rwood.data.image_sets import NAMED
from rwood.spec.study import StudySpec


def estimate(study: StudySpec) -> list[str]:
    """Lines on trials, epochs and images; nothing is opened.

    With early stopping a trial is expected to pass one rung in `reduction`, so the epochs of a
    search lie between that expectation and all trials in full.
    """
    epochs = study.run.epochs
    reruns = len(study.rerun.seeds) * (2 if study.rerun.base and study.search else 1)
    lines = []
    expected = 0.0
    if study.search is not None:
        full = study.search.trials * epochs
        expected = study.search.trials * expected_epochs(study)
        lines.append(
            f"search: {study.search.trials} trials, about {expected:,.0f} of {full:,} epochs with "
            f"early stopping, {study.cluster.max_concurrent} at a time; objective "
            f"{study.search.objective}"
        )
    lines.append(f"benchmark: {reruns} reruns of {epochs} epochs")
    images = _train_images(study)
    if images is not None:
        total = images * (expected + reruns * epochs)
        lines.append(f"cost: about {total:,.0f} training images of two views each")
    return lines


def expected_epochs(study: StudySpec) -> float:
    """Epochs a trial is expected to run: one in `reduction` passes each rung."""
    search, epochs = study.search, study.run.epochs
    if search is None or search.early_stopping is None:
        return float(epochs)
    rule = search.early_stopping
    total, share, reached, rung = 0.0, 1.0, 0, rule.grace_epochs
    while rung < epochs:
        total += share * (rung - reached)
        share, reached, rung = share / rule.reduction, rung, rung * rule.reduction
    return total + share * (epochs - reached)


def _train_images(study: StudySpec) -> int | None:
    ref = study.benchmark.id.train
    return NAMED[ref].count if isinstance(ref, str) else None

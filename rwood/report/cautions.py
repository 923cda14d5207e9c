"""What a reader should know before trusting a study's figures: warnings, each in a sentence."""

from collections.abc import Iterator
from statistics import fmean

from rwood.report.hyperparameters import metric_title
from rwood.report.inputs import ReportInputs
from rwood.report.tables import key_words, own_key, seed_values
from rwood.text import count_of

CHANCE = 50.0
"""AUROC of a detector that knows nothing, in percent."""
SATURATED = 0.3
"""Points within which complete trials that lie tell nothing from one another."""
DISAGREEMENT = 20.0
"""Points of AUROC between two scorers of one embedding that are worth a look."""
COLLAPSED = 5.0
"""Degrees between class means below which classes cannot be told apart by distance."""
FEW = 4
"""Complete trials that a search should have."""


def cautions(inputs: ReportInputs) -> list[str]:
    """Warnings, the gravest first; none is the rule."""
    return [*_benchmark(inputs), *_search(inputs)]


def _benchmark(inputs: ReportInputs) -> Iterator[str]:
    runs = inputs.runs
    if not runs:
        return
    for part in ("near", "far"):
        by_scorer = {key: fmean(seed_values(runs, f"{part}ood", key=key))
                     for key in runs[0].tables if key.startswith("ood")}  # fmt: skip
        if by_scorer[own_key(runs[0])] < CHANCE:
            yield (
                f"The {part}-OOD AUROC is below {CHANCE:.0f} %: {inputs.whose} takes these OOD "
                "images for more ordinary than ID images."
            )
        low, high = (pick(by_scorer, key=lambda k: by_scorer[k]) for pick in (min, max))
        if by_scorer[high] - by_scorer[low] > DISAGREEMENT:
            yield (
                f"On the same embeddings {key_words(high)} reach a {part}-OOD AUROC of "
                f"{by_scorer[high]:.2f} % and {key_words(low)} {by_scorer[low]:.2f} %: the choice "
                "of the scorer matters more than most settings."
            )
    angles = [run.history[-1].metrics.get("id/dispersion") for run in runs if run.history]
    if angles and all(angle is not None and angle < COLLAPSED for angle in angles):
        yield (
            f"The class means lie less than {COLLAPSED:.0f} degrees apart: the classes have "
            "collapsed into one, and a distance to them says little."
        )


def _search(inputs: ReportInputs) -> Iterator[str]:
    study = inputs.study
    trials = [t for t in study.trials if not t.outside and t.state != "running"]
    if inputs.config.search is None or not trials:
        return
    complete = [t for t in trials if t.state == "complete" and t.objective is not None]
    others = [t for t in trials if t.number != 0]
    if others and all(t.state == "pruned" for t in others):
        yield "Every trial but the first was pruned: no setting that was proposed ran to its end."
    elif len(complete) < FEW <= len(trials):
        yield (
            f"Only {count_of(len(complete), 'trial')} of {len(trials)} completed: the champion is "
            "the best of few."
        )
    values = [t.objective for t in complete if t.objective is not None]
    if study.objective is None or len(study.objectives) > 1 or len(values) < FEW:
        return
    if max(values) - min(values) < SATURATED:
        yield (
            f"All complete trials lie within {max(values) - min(values):.2f} points of "
            f"{metric_title(study.objective)}: the validation sets do not tell them apart."
        )

"""The finals in a report: the verdict, the numbers behind it, and the champion stage by stage."""

import math
import statistics
from collections.abc import Sequence

import yaml

from rwood.config.search import Choices, Range, apply, contains
from rwood.config.study import is_minimized
from rwood.report.document import Block, Folded, texts
from rwood.report.expected_best import expected_best
from rwood.report.hyperparameters import hyperparameters, metric_title
from rwood.report.inputs import ReportInputs
from rwood.report.power import detectable_difference, paired_power
from rwood.report.table import Table, plain_number, signed, with_std
from rwood.report.tables import gain, seed_values
from rwood.results import FinalsResult, RunResult
from rwood.text import count_of

_EDGE = 0.02
"""A value within this share of its range counts as one at the end of it."""


def finals_blocks(inputs: ReportInputs) -> list[Block]:
    """The verdict and what it rests on; nothing without finals."""
    finals = inputs.study.finals
    if finals is None or not finals.sentence:
        return []
    blocks = [*texts(finals.sentence, *finals.notes), stage_table(inputs, finals)]
    if finals.guard:
        blocks.append(_comparison_table(finals))
    if finals.seeds:
        blocks.append(Folded("Confirmation, seed by seed", _seed_table(finals)))
    if finals.race:
        blocks.append(Folded("Race", _race_table(inputs, finals)))
    return blocks


def stage_table(inputs: ReportInputs, finals: FinalsResult) -> Table:
    """What each stage saw of the finalist and the base run, and whose seeds those were."""
    rows = [_search_row(inputs, finals)]
    if finals.confirmation:
        ours, base = (finals.confirmation[name] for name in ("finalist", "base"))
        what = f"finals: {finals.objective}, {count_of(len(ours), 'fresh seed')}"
        rows.append((what, *_three(ours, base)))
    if finals.promoted and inputs.base_runs:
        for part in ("near", "far"):
            what = f"test: {part}-OOD AUROC (%), {count_of(len(inputs.runs), 'further seed')}"
            tested = (seed_values(r, f"{part}ood") for r in (inputs.runs, inputs.base_runs))
            rows.append((what, *_three(*tested)))
    caption = (
        f"The search's value is the best of many, {_seeds(inputs)}: too high by luck. The finals "
        "forget it. The test sets decide nothing and are measured last."
    )
    return Table(("what was seen", "finalist", "base run", "difference"), tuple(rows), caption)


def _search_row(inputs: ReportInputs, finals: FinalsResult) -> tuple[str, ...]:
    values = {trial.number: trial.objective for trial in inputs.study.trials}
    ours = None if finals.finalist is None else values.get(finals.finalist)
    base = values.get(0)  # The base run is the first trial.
    name = f"search: {metric_title(inputs.objective)}"
    if ours is None or base is None:
        return (name, plain_number(ours), plain_number(base), "/")
    return (name, *_three([ours], [base]))


def _three(ours: Sequence[float], base: Sequence[float]) -> tuple[str, str, str]:
    """Two means and the first minus the second."""
    means = statistics.fmean(ours), statistics.fmean(base)
    return (with_std(means[0], None), with_std(means[1], None), signed(means[0] - means[1]))


def _comparison_table(finals: FinalsResult) -> Table:
    one, gate = next(iter(finals.guard.values())), finals.gate
    compared = {f"objective: {finals.objective}": gate, **finals.guard} if gate else finals.guard
    rows = tuple(
        (name, signed(c.mean), f"{c.std:.2f}", signed(c.bound), signed(c.limit),
         "yes" if c.passed else "no")
        for name, c in compared.items()
    )  # fmt: skip
    caption = f"Finalist minus base run over {count_of(one.seeds, 'paired seed')}"
    caption += f"; the objective at level {gate.alpha:g}" if gate else ""
    caption += f", the families in points at level {one.alpha:g}"
    caption += ", where the bound is the mean." if one.alpha == 0.5 else "."
    columns = ("compared", "mean difference", "std", "lower bound", "must exceed", "passed")
    return Table(columns, rows, caption)


def _seed_table(finals: FinalsResult) -> Table:
    ours, base = (finals.confirmation[name] for name in ("finalist", "base"))
    rows = tuple(
        (str(seed), *_three([a], [b])) for seed, a, b in zip(finals.seeds, ours, base, strict=True)
    )
    return Table(("seed", "finalist", "base run", "difference"), rows, finals.objective)


def _race_table(inputs: ReportInputs, finals: FinalsResult) -> Table:
    names = {parameter.key: parameter.name for parameter in hyperparameters(inputs.config)}
    rows = []
    for number, values in finals.race.items():
        settings = (plain_number(finals.candidates[number].get(key)) for key in names)
        rows.append((f"trial {number}", with_std(statistics.fmean(values), None), *settings))
    return Table(("candidate", "mean", *names.values()), tuple(rows), finals.objective)


def search_sentences(inputs: ReportInputs) -> list[str]:
    """What a reader should know of the search: range ends, its worth in trials, changes."""
    return [*_edges(inputs), *_worth(inputs), *_changes(inputs)]


def _edges(inputs: ReportInputs) -> list[str]:
    """Searched settings of which the champion's value is at an end of a range that may be wider."""
    sentences = []
    for parameter in hyperparameters(inputs.config):
        value = inputs.study.champion_params.get(parameter.key)
        domain = parameter.domain
        if isinstance(domain, Choices) or domain.low == domain.high or not contains(domain, value):
            continue
        share = parameter.share(value)
        upper = share > 0.5
        if min(share, 1 - share) <= _EDGE and _can_be_widened(inputs, parameter.key, domain, upper):
            end = "upper" if upper else "lower"
            sentences.append(
                f"The champion's {parameter.word}, {plain_number(value)}, is at the {end} end of "
                f"its range ({parameter.range}): widen it and run again, earlier trials count."
            )
    return sentences


def _can_be_widened(inputs: ReportInputs, key: str, domain: Range, upper: bool) -> bool:
    """Whether the champion's run takes a value just beyond an end: some ends are a setting's own.

    E.g. 0 neighbours below a range from 1, which no run takes.
    """
    chosen = inputs.study.champion_params
    end, sign = (domain.high, 1) if upper else (domain.low, -1)
    whole = isinstance(chosen[key], int)
    beyond = end + sign if whole else math.nextafter(end, sign * math.inf)
    try:
        apply(inputs.config.run, {**chosen, key: beyond})
    except ValueError:
        return False
    return True


def _seeds(inputs: ReportInputs) -> str:
    count = len(inputs.config.the_search.seeds)
    return f"each a mean of {count} seeds" if count > 1 else "one seed each"


def _worth(inputs: ReportInputs) -> list[str]:
    """Expected best value of fewer trials, so that one sees what more of them would bring."""
    study = inputs.study
    if study.objective is None or len(study.objectives) > 1:
        return []
    values = [t.objective for t in study.trials if t.objective is not None and not t.outside]
    if len(values) < 4:
        return []
    sign = -1.0 if is_minimized(study.objective) else 1.0
    sizes = [k for k in (1, 2, 4, 8, 16, 32, 64, 128) if k < len(values)] + [len(values)]
    best = [abs(expected_best([sign * v for v in values], k)) for k in sizes]  # of 0, not -0
    by_size = ", ".join(f"{value:.2f} of {k}" for k, value in zip(sizes, best, strict=True))
    return [
        f"Expected best {metric_title(study.objective)} against complete trials: {by_size} "
        f"(unbiased, arXiv 2004.13705; {_seeds(inputs)}, so all of it is too high by luck)."
    ]


def _changes(inputs: ReportInputs) -> list[str]:
    def shown(value: object) -> str:
        if isinstance(value, dict):  # A range, as a study file has it.
            return yaml.safe_dump(value, default_flow_style=True, sort_keys=False).strip()
        return "nothing" if value is None else str(value)

    return [
        f"After {count_of(change.trials, 'trial')} {change.key} was changed from "
        f"{shown(change.before)} to {shown(change.after)}."
        for change in inputs.study.changes
    ]


def power_sentence(runs: Sequence[RunResult], base_runs: Sequence[RunResult]) -> str:
    """What the reruns can show at all; empty where nothing is paired."""
    difference = gain(runs, base_runs, "nearood", "auroc")
    if difference is None or len(difference.seeds) < 2:
        return ""
    count = len(difference.seeds)
    chance = paired_power(1.0, count, 0.025)
    least = detectable_difference(count, 0.025)
    return (
        f"With {count_of(count, 'paired seed')} a true difference of one seed std is shown in "
        f"{100 * chance:.0f} % of studies (two-sided, 5 %); one of {least:.1f} seed std in 80 %."
    )

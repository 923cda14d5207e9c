"""Ours beside the published figures, with a verdict on each."""

from collections.abc import Sequence
from typing import NamedTuple

from rwood.config.benchmark import MINIMIZED, Metric
from rwood.report.hyperparameters import CSV_TITLES
from rwood.report.published import Published, published
from rwood.report.table import Table, signed
from rwood.report.tables import MEANS, row_values
from rwood.results import RunResult, mean_and_std

METRICS: tuple[Metric, ...] = ("fpr95", "auroc")
_ROUNDED = 0.005
"""Half of the last published digit: a std published as 0.00 is no smaller."""


class Verdict(NamedTuple):
    """Ours minus one published figure."""

    ood_set: str
    metric: Metric
    difference: float
    stds: float | None
    """Published standard deviations that lie between them; None if no std was published."""

    @property
    def within(self) -> bool:
        """Whether ours lies within one published standard deviation."""
        return self.stds is not None and self.stds <= 1

    @property
    def words(self) -> str:
        """E.g. within (0.4 std), better by 2.3 std, worse; the last where no std was published."""
        better = (self.difference < 0) == (self.metric in MINIMIZED)
        side = "better" if better else "worse"
        if self.stds is None:
            return side
        return f"within ({self.stds:.1f} std)" if self.within else f"{side} by {self.stds:.1f} std"


def verdicts(runs: Sequence[RunResult], key: str, id_set: str | None) -> list[Verdict]:
    """FPR@95 and AUROC of every OOD set for which a figure was published; else empty."""
    known, protocol = published(), key.partition("/")[0]
    return [
        _verdict(name, metric, mean_and_std(list(by_metric[metric].values()))[0], known[place])
        for name, by_metric in row_values(runs, key).items()
        for metric in METRICS
        if (place := (id_set or "", protocol, name, metric)) in known
    ]


def _verdict(name: str, metric: Metric, ours: float, theirs: Published) -> Verdict:
    difference = ours - theirs.mean
    std = None if theirs.std is None else max(theirs.std, _ROUNDED)
    return Verdict(name, metric, difference, None if std is None else abs(difference) / std)


def verdict_table(compared: Sequence[Verdict], whose: str) -> Table:
    """One row an OOD set: ours minus the published FPR@95 and AUROC, each with its verdict."""
    by_set: dict[str, list[str]] = {}
    for verdict in compared:
        by_set.setdefault(verdict.ood_set, []).extend((signed(verdict.difference), verdict.words))
    titles = (CSV_TITLES[metric] for metric in METRICS)
    columns = ("OOD set", *(word for title in titles for word in (f"{title} difference", "")))
    rows = tuple((name, *cells) for name, cells in by_set.items())
    caption = (
        f"{whose.capitalize()} minus the published ReweightOOD with Mahalanobis scores, "
        "in points. Within: no further from it than one published std, over its runs."
    )
    return Table(columns, rows, caption, MEANS)


def verdict_sentence(compared: Sequence[Verdict], whose: str) -> str:
    """How many figures lie within one published std, and which lies furthest outside."""
    tested = [verdict for verdict in compared if verdict.stds is not None]
    if not tested:
        worst = max(compared, key=lambda verdict: abs(verdict.difference))
        return (
            f"Beside the published figures, of one run without a std, {whose} differs by "
            f"{abs(worst.difference):.2f} points at most ({_named(worst)})."
        )
    outside = [verdict for verdict in tested if not verdict.within]
    text = (
        f"Of {len(tested)} published figures (FPR@95 and AUROC), {whose} is within one published "
        f"std of {len(tested) - len(outside)}"
    )
    if not outside:
        return f"{text}: all of them."
    furthest = max(outside, key=lambda verdict: verdict.stds or 0.0)
    worse = sum(verdict.words.startswith("worse") for verdict in outside)
    return (
        f"{text}, better than {len(outside) - worse} and worse than {worse}; furthest off is "
        f"{_named(furthest)}, {furthest.words} ({signed(furthest.difference)} points)."
    )


def _named(verdict: Verdict) -> str:
    return f"{CSV_TITLES[verdict.metric]} on {verdict.ood_set}"

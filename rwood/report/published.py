"""The authors' published figures, to stand beside ours."""

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from rwood.report.table import with_std


@dataclass(frozen=True)
class Published:
    """One published figure, in percent."""

    mean: float
    std: float | None
    """Population standard deviation over runs; None for a single run."""

    def __str__(self) -> str:
        """The figure as the tables print it."""
        return with_std(self.mean, self.std)


@cache
def published() -> dict[tuple[str, str, str, str], Published]:
    """Figures of ReweightOOD with Mahalanobis scores by (ID set, protocol, OOD set, metric).

    Regmi et al., CVPRW 2024, tables of the authors' repository; OOD sets include the means
    `nearood` and `farood`.
    """
    text = files("rwood.report").joinpath("published.csv").read_text(encoding="utf-8")
    return {
        (row["id_set"], row["protocol"], row["ood_set"], row["metric"]): Published(
            mean=float(row["mean"]), std=float(row["std"]) if row["std"] else None
        )
        for row in csv.DictReader(text.splitlines())
    }

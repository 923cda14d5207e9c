"""Does the digits study say the same whatever its luck: `python -m tests.benchmarks.digits_seeds`.

Runs `studies/digits.yaml` with several seeds of the search, each with ten reruns of champion and
base run that had no part in the choice, and prints a row a search: the verdict, and what the test
sets say of it. About four minutes a search on 2 quiet cores; interrupted, it goes on where it
stopped.
"""

import argparse
from pathlib import Path

import numpy as np
from scipy import stats

import rwood
from rwood.config.study import StudyConfig
from rwood.study.frames import StudyResults
from tests.conftest import STUDIES

RERUNS = tuple(range(1, 11))
METRICS = ("near/auroc", "far/auroc", "id/nearest_mean")


def study_of(seed: int) -> StudyConfig:
    """The study with another seed of the search, and more reruns."""
    study = rwood.load_study(STUDIES / "digits.yaml")
    assert study.search is not None
    return study.model_copy(
        update={
            "name": f"digits-seed{seed}",
            "search": study.search.model_copy(update={"seed": seed}),
            "rerun": study.rerun.model_copy(update={"seeds": RERUNS}),
        }
    )


def row_of(seed: int, found: StudyResults) -> str:
    """A row of the table: the champion minus the base run, with 95 % intervals and p."""
    finals = found.record.finals
    assert finals is not None
    verdict = "stays"
    if finals.promoted:
        verdict = ", ".join(
            f"{k.rpartition('.')[2]} {_short(v)}" for k, v in found.champion.items()
        )
    cells = [str(seed), verdict, f"{finals.gate.mean:+.2f}" if finals.gate else "/"]
    for metric in METRICS:
        table = found.reruns[metric].unstack("label")
        gains = (table["champion"] - table["base"]).to_numpy()
        if not np.any(gains):
            cells.append("0")
            continue
        low, high = stats.t.interval(0.95, len(gains) - 1, gains.mean(), stats.sem(gains))
        p = stats.ttest_1samp(gains, 0.0).pvalue
        cells.append(f"{gains.mean():+.2f} ({low:+.2f} to {high:+.2f}, p {p:.3f})")
    return f"| {' | '.join(cells)} |"


def _short(value: object) -> str:
    return f"{value:.2g}" if isinstance(value, float) else str(value)


def main() -> None:
    """Run what is left and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--results", type=Path, default=Path("results"))
    given = parser.parse_args()
    rows = [row_of(seed, rwood.run(study_of(seed), results=given.results)) for seed in given.seeds]
    print("| search seed | champion | validation | near AUROC | far AUROC | nearest mean |")
    print("| --: | :-- | --: | --: | --: | --: |")
    print(*rows, sep="\n")


if __name__ == "__main__":
    main()

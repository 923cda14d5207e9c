"""The tables of studies/validation/README.md, made of the committed records and of nothing else.

`python -m tests.a_validation_page` writes them into the page; with a results folder of `rwood run`
it takes the records from there instead.
"""

import sys
from collections.abc import Callable
from pathlib import Path

from rwood.config.load import load_study
from rwood.report.inputs import ReportInputs
from rwood.report.ranking import RerunSetting, ranking_table, rerun_settings
from rwood.report.table import Table
from rwood.results import RunResult, StudyResult, TrialResult, load
from tests.an_evidence_page import filled

FOLDER = Path(__file__).parents[1] / "studies" / "validation"
PAGE = FOLDER / "README.md"
RESULTS = FOLDER / "results"
NAMES = {"digits": "digits-ranking", "jpeg": "cifar10-jpeg-ranking"}
"""Name on the page -> study."""


def inputs_of(name: str) -> ReportInputs:
    """The committed record of a study, beside what its file says."""
    record = load(StudyResult, RESULTS / f"{name}.json")
    return ReportInputs(record, load_study(FOLDER / f"{name}.yaml"), {}, {})


def settings_of(name: str) -> list[RerunSetting]:
    """The settings of a study that were rerun."""
    return rerun_settings(inputs_of(name))


def ranking_of(name: str) -> Table:
    """A study's table as its report shows it."""
    table = ranking_table(settings_of(name))
    assert table is not None
    return table


TABLES: dict[str, Callable[[], str]] = {
    place: lambda name=name: ranking_of(name).markdown()  # type: ignore[misc]
    for place, name in NAMES.items()
}


def keep(left: Path) -> None:
    """Copy the records that `rwood run` left, with the last epoch of every training."""
    from tests.stored_trials import trials_in

    def last(ended: RunResult | TrialResult) -> dict[str, object]:
        return {"history": ended.history[-1:]}

    RESULTS.mkdir(exist_ok=True)
    for name in NAMES.values():
        record = load(StudyResult, left / name / "study.json")
        trials = (t.model_copy(update=last(t)) for t in trials_in(left / name).values())
        runs = (run.model_copy(update=last(run)) for run in record.runs)
        slim = record.model_copy(update={"trials": tuple(trials), "runs": tuple(runs)})
        text = slim.model_dump_json() + "\n"
        (RESULTS / f"{name}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:]:
        keep(Path(sys.argv[1]))
    else:
        PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), TABLES), encoding="utf-8")

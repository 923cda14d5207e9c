"""The report stage: what is on disk becomes tables, figures and the page."""

from collections.abc import Sequence
from pathlib import Path

from rwood.config.study import StudyConfig
from rwood.ray_backend.job import Job
from rwood.report import ReportInputs, load_scores, project_embeddings, render_report
from rwood.results import StudyResult
from rwood.search.importance import importances
from rwood.study.rerun_plan import CHAMPION


def write_report(
    study: StudyConfig, record: StudyResult, jobs: Sequence[Job], folder: Path
) -> list[Path]:
    """Write the report of a study and return its files.

    Of each label of reruns it shows the scores and embeddings of the first seed.
    """
    importance, note = (
        importances(study.run, study.search, record.trials) if study.search else ({}, "")
    )
    first = {str(job.label): job.paths for job in reversed(jobs)}
    inputs = ReportInputs(
        study=record,
        config=study,
        importance=importance,
        importance_note=note,
        scores={label: load_scores(paths.scores) for label, paths in first.items()},
        embedding=project_embeddings(first[CHAMPION].embeddings),
    )
    return render_report(inputs, folder)

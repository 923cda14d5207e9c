"""Opening a study: its results folder, alone, and its MLflow experiment."""

from collections.abc import Iterator
from contextlib import contextmanager

from rwood import results
from rwood.config.study import StudyConfig
from rwood.errors import StudyError
from rwood.search.journal import without_password
from rwood.storage import is_remote
from rwood.study.context import Context, Screen
from rwood.study.record import open_record
from rwood.study.stages import Study
from rwood.tracking import check_uri


@contextmanager
def open_study(study: StudyConfig, context: Context, screen: Screen) -> Iterator[Study]:
    """Open a study's results folder, alone, and its MLflow experiment; leave both consistent.

    Raises:
        StudyError: the folder belongs to another study, or another process works on it.
    """
    if context.tracking_uri is None and is_remote(context.results):
        raise StudyError(
            f"results at {context.results} need an MLflow server: name it by --tracking-uri "
            "(MLFLOW_TRACKING_URI); the store used without one is a file of this machine"
        )
    if context.tracking_uri is not None:
        check_uri(context.tracking_uri)
    folder = context.results / study.name
    with open_record(study, folder) as record:
        _check_storage(record, context)
        opened = Study(study, context, folder, record, screen)
        try:
            yield opened
        except BaseException:
            opened.close(interrupted=True)
            raise
        opened.close(interrupted=False)


def _check_storage(record: results.StudyResult, context: Context) -> None:
    """Refuse another storage than the one that holds the trials: they would seem to be lost."""
    shown = without_password(context.storage) if context.storage else None
    if record.trials and record.storage != shown:
        where = record.storage or "the journal in the results folder"
        how = "name it by --storage (RWOOD_STORAGE)" if record.storage else "leave --storage out"
        raise StudyError(f"the trials of study {record.name} are in {where}: {how}")

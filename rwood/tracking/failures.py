"""What a failed request says: the server is away, or it does not take this run."""

from rwood.text import count_of, without_password
from rwood.tracking.client import reason

_TRANSIENT = {408, 429, 499}
"""Statuses of the 400s that ask for another try: timeout, too many requests, cancelled."""
_LOCAL = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)
"""A file of the run that cannot be read."""


def is_refusal(error: Exception) -> bool:
    """True if the same request fails again: the run is at fault, or one of its files.

    Everything else (connection, timeout, 5xx, a locked database) may pass.
    """
    from mlflow.exceptions import MlflowException

    if isinstance(error, MlflowException):
        status = error.get_http_status_code()
    else:  # Uploads raise what the HTTP library raises.
        status = getattr(getattr(error, "response", None), "status_code", None)
    if status is None:
        return isinstance(error, _LOCAL)
    return 400 <= status < 500 and status not in _TRANSIENT


def unsent_sentence(uri: str, *, waiting: int, why: str, refused: dict[str, str]) -> str | None:
    """The sentence for what MLflow lacks at the end; None if it has everything.

    `waiting` counts the runs that were not sent; `refused` has the name of a run that could not be
    sent -> the reason.
    """
    sentences = []
    server = f"MLflow at {without_password(uri)}"
    if waiting:
        sentences.append(
            f"{server} did not take {count_of(waiting, 'run')} ({why}); nothing is lost: the next "
            "rwood run sends them"
        )
    if refused:
        name, cause = next(iter(refused.items()))
        others = f" and {len(refused) - 1} more (see the log)" if len(refused) > 1 else ""
        sentences.append(
            f"{server} lacks all or part of run {name} ({cause}){others}; the next rwood run "
            "tries again"
        )
    return "; ".join(sentences) or None


def cause(error: Exception, uri: str) -> str:
    """Why a run could not be sent, in a line."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return reason(error, uri)

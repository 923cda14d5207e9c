"""MLflow: experiment = study, run = trial or rerun. The only room that imports mlflow.

What is on disk is the truth and MLflow a copy: every call states how a record looks now, a thread
of its own sends what is missing, and saying the same again changes nothing. If the server is away,
the study goes on; what could not be sent goes with the next start. A run that cannot be sent does
not keep the others back.
"""

from rwood.tracking.client import check_uri, local_uri, without_password
from rwood.tracking.registry import CHAMPION_ALIAS, register_champion
from rwood.tracking.signals import signals_deferred
from rwood.tracking.summary import read_champion_and_base, read_summary
from rwood.tracking.tracker import Tracker

__all__ = [
    "CHAMPION_ALIAS",
    "Tracker",
    "check_uri",
    "local_uri",
    "read_champion_and_base",
    "read_summary",
    "register_champion",
    "signals_deferred",
    "without_password",
]

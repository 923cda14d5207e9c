"""The connection to an MLflow server or store."""

import logging
import os
import shutil
import sqlite3
import tempfile
import warnings
from collections.abc import Mapping
from contextlib import closing, suppress
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from rwood.errors import SpecError
from rwood.text import first_line, login_of, without_password
from rwood.tracked.views import EXPERIMENT

_LOG = logging.getLogger(__name__)
_KIND = {"mlflow.experimentKind": "custom_model_development"}
"""Makes MLflow's UI open its pages for training, not those for language models."""
_SCHEMES = {"file", "http", "https", "databricks", "databricks-uc", "uc", "postgresql", "mysql",
            "sqlite", "mssql"}  # fmt: skip
KEY_TAG = "rwood.key"
"""Tag that names a run within its experiment, for ever: `<study id>/search/<trial>`, ..."""
_ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
"""Table and column of an SQLite store for every address of artifacts."""


def local_uri(results: Path) -> str:
    """The tracking store used when none is named: SQLite in the results folder."""
    from sqlalchemy.engine import URL

    path = (results / "mlflow.db").resolve()
    plain = f"sqlite:///{path}"
    if local_file(plain) == path:
        return plain
    # In an address a question mark or %20 of a folder's name means something else.
    return URL.create("sqlite", database=str(path)).render_as_string()


def local_file(uri: str) -> Path | None:
    """The file of an SQLite store; None for any other store."""
    from sqlalchemy.engine import make_url

    return Path(make_url(uri).database or "") if uri.startswith("sqlite:///") else None


def check_uri(uri: str) -> None:
    """Refuse a tracking URI that no MLflow store has: waiting would not help.

    Raises:
        SpecError: of a scheme that neither MLflow nor a plugin of it knows.
    """
    scheme = urlsplit(uri).scheme.partition("+")[0]
    known = _SCHEMES | {point.name for point in entry_points(group="mlflow.tracking_store")}
    if scheme and scheme not in known:
        raise SpecError(
            f"--tracking-uri {without_password(uri)}: MLflow knows no {scheme}://; an MLflow "
            "server is http://HOST:PORT or https://...",
            got=scheme,
        )


def make_store(uri: str) -> None:
    """Make an SQLite store that is not there yet, whole or not at all.

    MLflow makes its tables in many steps; killed between two of them it leaves a file that it
    refuses for ever. So the tables are made in a scratch file, which then appears in its place at
    once. Any other store makes itself.
    """
    path = local_file(uri)
    if path is None or path.exists():
        return
    with tempfile.TemporaryDirectory(prefix="rwood-") as scratch:
        made = Path(scratch) / path.name
        connect(f"sqlite:///{made}").search_experiments(max_results=1)
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copyfile(made, part)
            with suppress(FileExistsError):  # Another study in this folder was faster.
                os.link(part, path)
        finally:
            part.unlink(missing_ok=True)


def readdress_artifacts(uri: str, experiment: str, artifacts: Path) -> None:
    """Where an SQLite store was moved along with its artifacts, say where these lie now.

    MLflow keeps absolute addresses, and its client changes none: what is new would go to the folder
    that was left, and nothing would be found. All experiments that lay there are readdressed.
    """
    path, now = local_file(uri), artifacts.resolve().as_uri()
    if path is None or not artifacts.exists():
        return
    with closing(sqlite3.connect(path)) as store, store:
        query = "SELECT artifact_location FROM experiments WHERE name = ?"
        (before,) = store.execute(query, (experiment,)).fetchone() or (now,)
        ours = before.startswith("file:") and before.endswith(f"/{artifacts.name}")
        if before == now or not ours:
            return
        for table, column in _ADDRESSES:
            store.execute(
                f"UPDATE {table} SET {column} = :now || substr({column}, length(:before) + 1) "
                f"WHERE substr({column} || '/', 1, length(:before) + 1) = :before || '/'",
                {"now": now, "before": before},
            )


def connect(uri: str) -> Any:
    """An MLflow client; nothing is asked of the server yet.

    MLflow's own patience (minutes) is cut short: whoever calls decides whether to try again.
    """
    os.environ.setdefault("MLFLOW_CONFIGURE_LOGGING", "false")
    # A request whose answer was lost may have been obeyed: the server is asked before the next.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow.tracking import MlflowClient
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def open_experiment(client: Any, name: str, artifacts: Path | None, tags: Mapping[str, str]) -> str:
    """Id of the experiment, made if it is not there, with its tags."""
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        location = artifacts.resolve().as_uri() if artifacts else None
        experiment = client.get_experiment(client.create_experiment(name, location, _KIND))
    tag_experiment(client, experiment, tags)
    return str(experiment.experiment_id)


def tag_experiment(client: Any, experiment: Any, tags: Mapping[str, str]) -> None:
    """Set the tags of an experiment that it does not have yet.

    One that the server refuses is left out, with a line in the log: before 3.16 MLflow
    takes 5,000 characters, which a saved view exceeds, and a study is worth more than its view.
    """
    from mlflow.exceptions import MlflowException

    for key, text in tags.items():
        value = text.replace(EXPERIMENT, experiment.experiment_id)
        if experiment.tags.get(key) == value:
            continue
        try:
            client.set_experiment_tag(experiment.experiment_id, key, value)
        except MlflowException as error:
            if error.get_http_status_code() != 400:
                raise
            _LOG.warning("MLflow does not take the tag %s of the experiment: %s", key, error)


def all_runs(client: Any, experiment_id: str) -> list[Any]:
    """Every run of an experiment that is not deleted, page by page."""
    runs: list[Any] = []
    token = None
    while True:
        page = client.search_runs([experiment_id], max_results=1000, page_token=token)
        runs += page
        token = page.token
        if not token:
            return runs


def without_login(uri: str) -> str:
    """The address of a server without its login, which goes to MLflow by the environment.

    An address is said in messages and logs, by MLflow too; its login shall not be. A database's
    address keeps its own.
    """
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https") or parts.username is None:
        return uri
    os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(parts.username)
    os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(parts.password or "")
    return without_password(uri)


def reason(error: Exception, uri: str) -> str:
    """First line of what MLflow raised, without the address's password."""
    return first_line(error).replace(login_of(uri), "")

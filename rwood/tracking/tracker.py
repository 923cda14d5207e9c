"""Keeps an MLflow experiment equal to a study, from a thread of its own."""

import logging
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from rwood.text import count_of
from rwood.tracked import TrackedRun
from rwood.tracking.client import make_store, reason, without_login, without_password
from rwood.tracking.sender import Sender

_RETRY_S = 2.0


class Tracker:
    """Keeps one MLflow experiment equal to a study.

    Args:
        uri: tracking server or store.
        experiment: name of the study.
        artifacts: folder for artifacts where the store is a local file; None leaves the choice to
            the server.
        tags: of the experiment; `{experiment}` in a text stands for its id.
    """

    def __init__(
        self,
        uri: str,
        experiment: str,
        artifacts: Path | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Start the sending thread; nothing is awaited here."""
        self.uri = without_login(uri)
        self._experiment = experiment
        self._tags = dict(tags or {})
        self._artifacts = artifacts
        self._wanted: dict[str, TrackedRun] = {}
        self._changed: dict[str, TrackedRun] = {}
        self._ids: dict[str, str] = {}
        self._wake = threading.Condition()
        self._closing = False
        self._error: str | None = None
        self._failures = 0
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()

    def update(self, run: TrackedRun) -> None:
        """State how a run looks now; returns at once."""
        with self._wake:
            self._wanted[run.key] = run
            self._changed[run.key] = run
            self._wake.notify_all()

    def interrupt(self) -> None:
        """Mark what is still running as interrupted, to be continued by a later start."""
        for run in list(self._wanted.values()):
            if run.state == "running":
                self.update(replace(run, state="interrupted"))

    def flush(self, timeout: float = 60.0) -> bool:
        """Wait until everything stated so far is sent.

        Returns:
            False if it was not: the server is away, or slower than the timeout.
        """
        with self._wake:
            failures = self._failures
            self._wake.wait_for(lambda: not self._changed or self._failures > failures, timeout)
            return not self._changed

    def run_id(self, key: str) -> str | None:
        """MLflow's id of a run; None before it was sent (see `flush`)."""
        with self._wake:
            return self._ids.get(key)

    def close(self, timeout: float = 60.0) -> str | None:
        """Send the rest; a sentence if something could not be sent, else None."""
        with self._wake:
            self._closing = True
            self._wake.notify_all()
        self._thread.join(timeout)
        if not self._changed:
            return None
        runs = count_of(len(self._changed), "run")
        return (
            f"MLflow at {without_password(self.uri)} did not take {runs} "
            f"({self._error or 'too slow'}); nothing is lost: the next rwood run sends them"
        )

    def _work(self) -> None:
        sender: Sender | None = None
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._changed or self._closing)
                batch = dict(self._changed)
                closing = self._closing
            if not batch and closing:
                return
            try:
                if sender is None:
                    make_store(self.uri)
                    sender = Sender(self.uri, self._experiment, self._artifacts, self._tags)
                self._send(sender, batch)
            except Exception as error:  # MLflow raises whatever its store or HTTP client raises.
                self._warn_once(error)
                sender = None  # The server may have more than was acknowledged: ask it again.
                if closing:
                    return
                self._pause()

    def _send(self, sender: Sender, batch: dict[str, TrackedRun]) -> None:
        for key, run in batch.items():
            run_id = sender.send(run)
            with self._wake:
                self._ids[key] = run_id
                if self._changed.get(key) is run:
                    del self._changed[key]
                self._wake.notify_all()

    def _pause(self) -> None:
        """Leave the server alone for a while, or until the study ends."""
        with self._wake:
            self._wake.wait_for(lambda: self._closing, _RETRY_S)

    def _warn_once(self, error: Exception) -> None:
        text = reason(error, self.uri)
        with self._wake:
            first = self._error is None
            self._error = text
            self._failures += 1
            self._wake.notify_all()
        if first:
            logging.getLogger(__name__).warning("MLflow does not answer: %s", text)

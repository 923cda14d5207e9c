"""Keeps an MLflow experiment equal to a study, from a thread of its own."""

import atexit
import logging
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from rwood.tracked.run import TrackedRun
from rwood.tracking.client import make_store, readdress_artifacts, reason, without_login
from rwood.tracking.failures import cause, is_refusal, unsent_sentence
from rwood.tracking.pending import Pending
from rwood.tracking.sender import Sender
from rwood.tracking.signals import signals_deferred

_LOG = logging.getLogger(__name__)
_RETRY_S = 2.0
_INTERRUPTED_S, _LAST_S = 8.0, 4.0
"""How long `close` waits after an interrupt, and for the run that is being sent when it gives up.
"""


class Tracker:
    """Keeps one MLflow experiment equal to a study.

    A run that cannot be sent (the server refuses it, one of its files is missing) is left out, said
    once, and tried again when it changes or at the next start. While the server is away, all wait.
    However the process ends, short of being killed, it leaves no run of its own RUNNING.

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
        self._pending = Pending()
        self._sender: Sender | None = None
        self._lost = False
        self._error: str | None = None
        self._warned = False
        self._told: set[str] = set()
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()
        atexit.register(self._leave)

    def update(self, run: TrackedRun) -> None:
        """State how a run looks now; returns at once."""
        self._pending.put(run)

    def interrupt(self) -> None:
        """Mark what is still running as interrupted, to be continued by a later start."""
        self._pending.interrupt()

    def flush(self, timeout: float = 60.0) -> bool:
        """Wait until everything stated so far is sent.

        Returns:
            False if it was not: the server is away, or took nothing for `timeout` seconds.
        """
        return self._pending.wait(timeout)

    def run_id(self, key: str) -> str | None:
        """MLflow's id of a run; None before it was sent (see `flush`)."""
        return self._pending.run_id(key)

    def close(self, timeout: float = 60.0) -> str | None:
        """Send the rest; a sentence if something could not be sent, else None.

        Waits as long as runs go through; after an interrupt, or once Ctrl-C is pressed meanwhile,
        12 seconds at most. Ctrl-C takes effect when the running ones are marked.

        Args:
            timeout: seconds without a run that went through, after which it gives up.
        """
        with signals_deferred() as signals:
            self._pending.close()
            self._drain(timeout, signals)
            self._pending.stop()
            self._thread.join(_LAST_S)
            atexit.unregister(self._leave)
        waiting, refused = self._pending.left()
        why = "interrupted" if self._pending.interrupted else "too slow"
        return unsent_sentence(self.uri, waiting=waiting, why=self._error or why, refused=refused)

    def _drain(self, timeout: float, signals: list[int]) -> None:
        done, since = -1, time.monotonic()
        limit = timeout
        while self._thread.is_alive() and time.monotonic() - since < limit:
            if signals:
                self.interrupt()
            if self._pending.interrupted:
                if limit != _INTERRUPTED_S:
                    limit, since = _INTERRUPTED_S, time.monotonic()
            elif self._pending.done != done:
                done, since = self._pending.done, time.monotonic()
            self._thread.join(0.1)

    def _leave(self) -> None:
        """Close at the end of a process that was interrupted before it did."""
        if self._thread.is_alive():
            self.interrupt()
            with suppress(KeyboardInterrupt):
                self.close()

    def _work(self) -> None:
        while (run := self._pending.next()) is not None:
            try:
                run_id = self._connected().send(run)
            except Exception as error:  # MLflow raises whatever its store or HTTP client raises.
                if not self._go_on(run, error):
                    break
            else:
                self._error = None
                self._pending.take(run, run_id)

    def _connected(self) -> Sender:
        if self._sender is None:
            make_store(self.uri)
            if self._artifacts is not None:
                readdress_artifacts(self.uri, self._experiment, self._artifacts)
            self._sender = Sender(self.uri, self._experiment, self._artifacts, self._tags)
        elif self._lost:  # The server may have more than was acknowledged.
            self._sender.ask_all_again()
        self._lost = False
        return self._sender

    def _go_on(self, run: TrackedRun, error: Exception) -> bool:
        """Decide what a failure means; False if there is no point in going on."""
        if self._sender is None or self._lost or not self._answers(self._sender, run):
            return self._wait(error)
        certain = is_refusal(error)
        self._lost = not certain  # The run may have been made although the answer says otherwise.
        text = cause(error, self.uri)
        verdict = self._pending.fail(run, text, certain=certain)
        if verdict == "stuck":
            return self._wait(error)
        if verdict == "refused" and run.key not in self._told:
            self._told.add(run.key)
            _LOG.warning("run %s could not be sent to MLflow: %s; it is tried again when it "
                         "changes, or at the next start", run.name, text)  # fmt: skip
        return True

    def _answers(self, sender: Sender, run: TrackedRun) -> bool:
        try:
            sender.ask_again(run.key)
        except Exception:
            return False
        return True

    def _wait(self, error: Exception) -> bool:
        """Leave a server that is away alone for a while; False if the study ends."""
        self._lost = True
        self._error = reason(error, self.uri)
        if not self._warned:
            self._warned = True
            _LOG.warning("MLflow does not answer: %s", self._error)
        closing = self._pending.closing
        self._pending.fail_all(_RETRY_S)
        return not closing

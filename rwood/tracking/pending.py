"""Which runs are still to be sent; shared by the study's threads and the one that sends."""

import threading
from dataclasses import replace
from typing import Literal

from rwood.tracked.run import TrackedRun

_TRIES_CERTAIN, _TRIES = 2, 3
"""Failures after which a run is left out: the first time it may just have been deleted there."""

Verdict = Literal["again", "refused", "stuck"]


class Pending:
    """Runs to send, in the order in which they were stated."""

    def __init__(self) -> None:
        """Nothing is stated yet."""
        self._wake = threading.Condition()
        self._wanted: dict[str, TrackedRun] = {}
        self._changed: dict[str, TrackedRun] = {}
        self._refused: dict[str, tuple[str, str]] = {}
        self._failed: dict[str, tuple[int, int]] = {}
        self._ids: dict[str, str] = {}
        self._outages = 0
        self.done = 0
        """Runs that were taken or left out so far."""
        self.closing = False
        self.interrupted = False
        self._stopped = False

    def put(self, run: TrackedRun) -> None:
        """State how a run looks now; one that was left out is tried again only if it changed."""
        with self._wake:
            if self.interrupted and run.state == "running":
                run = replace(run, state="interrupted")
            if run.key in self._refused and self._wanted[run.key] == run:
                return
            self._refused.pop(run.key, None)
            self._wanted[run.key] = self._changed[run.key] = run
            self._wake.notify_all()

    def interrupt(self) -> None:
        """State that what is running was interrupted; it goes before all others."""
        with self._wake:
            self.interrupted = True
            running = [run for run in self._wanted.values() if run.state == "running"]
            marked = {run.key: replace(run, state="interrupted") for run in running}
            self._wanted |= marked
            self._changed = marked | {k: r for k, r in self._changed.items() if k not in marked}
            self._wake.notify_all()

    def close(self) -> None:
        """State that nothing more comes."""
        with self._wake:
            self.closing = True
            self._wake.notify_all()

    def stop(self) -> None:
        """End after the run that is being sent: one sent by half would stay RUNNING."""
        with self._wake:
            self._stopped = True

    def next(self) -> TrackedRun | None:
        """The run to send next; waits for one; None at the end, or once stopped."""
        with self._wake:
            self._wake.wait_for(lambda: self._changed or self.closing)
            return None if self._stopped else next(iter(self._changed.values()), None)

    def take(self, run: TrackedRun, run_id: str) -> None:
        """Note that the server has a run."""
        with self._wake:
            self._ids[run.key] = run_id
            self._refused.pop(run.key, None)
            self._finish(run)

    def fail(self, run: TrackedRun, cause: str, *, certain: bool) -> Verdict:
        """Note that a run could not be sent although the server answers.

        Args:
            run: which.
            cause: why, in a line.
            certain: the run itself is at fault; else it may be the server, and the failure counts
                only if other runs were taken since the last one.

        Returns:
            `again`: it is tried again, after the others unless certain. `refused`: it is left out.
            `stuck`: nothing else was taken meanwhile, so the server is at fault.
        """
        with self._wake:
            failures, done = self._failed.get(run.key, (0, -1))
            others = self.done > done
            failures += certain or others
            self._failed[run.key] = (failures, self.done)
            if failures >= (_TRIES_CERTAIN if certain else _TRIES):
                self._refused[run.key] = (run.name, cause)
                self._finish(run)
                return "refused"
            if not certain and self._changed.get(run.key) is run:
                self._changed[run.key] = self._changed.pop(run.key)
            return "again" if certain or others else "stuck"

    def fail_all(self, pause: float) -> None:
        """Note that the server is away; leave it alone for some seconds, or until the end."""
        with self._wake:
            self._outages += 1
            self._wake.notify_all()
            self._wake.wait_for(lambda: self.closing, pause)

    def wait(self, timeout: float) -> bool:
        """Wait until all is sent; False if the server is away or took nothing for so long."""
        with self._wake:
            outages = self._outages
            while self._changed and self._outages == outages:
                if not self._something_happens(timeout):
                    break
            return not self._changed

    def run_id(self, key: str) -> str | None:
        """Id on the server; None before the run was sent."""
        with self._wake:
            return self._ids.get(key)

    def left(self) -> tuple[int, dict[str, str]]:
        """How many runs wait; name of each one that was left out -> why."""
        with self._wake:
            return len(self._changed), dict(self._refused.values())

    def _something_happens(self, timeout: float) -> bool:
        """Wait for a run that is done with, or an outage; False if there is none for so long."""
        before = self._outages + self.done
        return self._wake.wait_for(lambda: self._outages + self.done > before, timeout)

    def _finish(self, run: TrackedRun) -> None:
        self._failed.pop(run.key, None)
        if self._changed.get(run.key) is run:
            del self._changed[run.key]
        self.done += 1
        self._wake.notify_all()

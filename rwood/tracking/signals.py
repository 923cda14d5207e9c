"""Signals that wait until something short is done."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def signals_deferred() -> Iterator[list[int]]:
    """Hold SIGINT and SIGTERM back until the block ends; then the first one is delivered.

    For the steps that leave a study consistent: a second Ctrl-C would end them halfway. The block
    must end by itself, since nothing else ends it. In a thread other than the main one nothing is
    held back: Python delivers signals to the main thread only.

    Example:
        with signals_deferred():
            study.close(interrupted=True)

    Yields:
        Numbers of the signals that came so far, oldest first.
    """
    came: list[int] = []
    earlier = {}

    def keep(number: int, frame: FrameType | None) -> None:
        came.append(number)

    try:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                handler = signal.getsignal(number)
                if handler is not None and handler != signal.SIG_IGN:
                    earlier[number] = handler
                    signal.signal(number, keep)
        yield came
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])

"""What can go wrong and who can mend it.

```
RwoodError              the user can fix it: one sentence, exit code 2
├── SpecError           a setting: which file, which dotted key, what it got, what is allowed
├── DataError           an image set is missing, short or corrupt: which file, what to run
├── RunError            a training failed (exit code 1)
│   └── NonFiniteLossError   the loss left the real numbers before an optimiser step
├── StorageError        the place of the results takes nothing more: full, read-only, gone
└── StudyError          no complete trial, another study under this name, nothing reported
```
Anything else is a bug and keeps its traceback. Errors cross processes, so every constructor takes
one positional message and optional keywords.
"""

from typing import Any


class RwoodError(Exception):
    """Something the user can mend, said in one sentence.

    Args:
        message: the sentence.
        details: facts by name, kept for programs (`error.details["key"]`).
    """

    def __init__(self, message: str, **details: Any) -> None:
        """Keep the message and the details."""
        super().__init__(message)
        self.details = details

    def __reduce__(self) -> tuple[Any, ...]:
        """Unpickle with the details, which `Exception` alone would lose."""
        return (_rebuild, (type(self), str(self), self.details))


class SpecError(RwoodError):
    """A study or benchmark file asks for something that cannot be."""


class DataError(RwoodError):
    """An image set is missing, short or corrupt."""


class RunError(RwoodError):
    """A training failed."""


class NonFiniteLossError(RunError):
    """The loss became NaN or infinite; the optimiser step was not taken."""


class StorageError(RwoodError):
    """The place of the results takes nothing more: it is full, read-only or gone."""


class StudyError(RwoodError):
    """A study cannot go on or has no answer."""


def _rebuild(kind: type[RwoodError], message: str, details: dict[str, Any]) -> RwoodError:
    return kind(message, **details)

"""A command line without a process of its own: what it prints, and its exit code.

For what ends before Ray starts; to start Python and load the library takes longer than that.
"""

import io
import os
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from rwood.__main__ import main


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


def said(*words: object, cwd: Path) -> Done:
    """Run `rwood WORDS` in a folder, without this process's settings of Ray and MLflow."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "MLFLOW_"))}
    with (
        chdir(cwd),
        patch.object(sys, "argv", ["rwood", *map(str, words)]),
        patch.dict(os.environ, kept, clear=True),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
    return Done(code, out.getvalue(), err.getvalue())

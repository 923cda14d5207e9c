"""`rwood` and `python -m rwood`."""

import codecs
import errno
import io
import os
import sys

from rwood.cli import app
from rwood.errors import RunError, RwoodError

_PLACE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EACCES, errno.EEXIST,
          errno.ENOTDIR, errno.EISDIR}  # fmt: skip
"""What is wrong with a place that the user named, not with the program."""


def main() -> None:
    """Run a verb; what the user can mend is said in a sentence, a bug keeps its traceback."""
    if os.name == "nt":
        print("rwood: Windows is not supported; run rwood on Linux, on macOS, or in WSL 2",
              file=sys.stderr)  # fmt: skip
        sys.exit(2)
    if isinstance(sys.stdout, io.TextIOWrapper):
        utf8 = codecs.lookup(sys.stdout.encoding).name == "utf-8"
        # A file's name may be no UTF-8; another encoding may lack signs of ours.
        sys.stdout.reconfigure(errors="surrogateescape" if utf8 else "backslashreplace")
    try:
        app()
    except RwoodError as error:
        print(f"rwood: {error}", file=sys.stderr)
        sys.exit(1 if isinstance(error, RunError) else 2)
    except OSError as error:
        if error.errno not in _PLACE:
            raise
        print(f"rwood: {error.filename or 'results'} cannot be read or written: {error.strerror}; "
              "what was written before is whole", file=sys.stderr)  # fmt: skip
        sys.exit(2)


if __name__ == "__main__":
    main()

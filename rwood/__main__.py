"""`rwood` and `python -m rwood`."""

import sys

from rwood.cli import app
from rwood.errors import RunError, RwoodError


def main() -> None:
    """Run a verb; what the user can mend is said in a sentence, a bug keeps its traceback."""
    try:
        app()
    except RwoodError as error:
        print(f"rwood: {error}", file=sys.stderr)
        sys.exit(1 if isinstance(error, RunError) else 2)


if __name__ == "__main__":
    main()

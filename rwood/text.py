"""Numbers, names, addresses and errors in sentences."""

import difflib
import re
from collections.abc import Iterable


def count_of(count: float, word: str, plural: str | None = None) -> str:
    """A count with its word: `1 trial`, `1,200 trials`, `0.5 GPUs`.

    Args:
        count: how many.
        word: of one.
        plural: of several; None adds an s.
    """
    return f"{count:,.12g} {word if count == 1 else plural or word + 's'}"


def did_you_mean(name: str, names: Iterable[str], otherwise: str = "", cutoff: float = 0.5) -> str:
    """The question after a wrong name, as in `did you mean temperature?`.

    Args:
        name: the wrong one.
        names: the right ones.
        otherwise: returned where none of them is near.
        cutoff: least similarity of two names, 0 to 1 (`difflib.get_close_matches`).
    """
    right = nearest(name, names, cutoff)
    return f"did you mean {right}?" if right else otherwise


def nearest(name: str, names: Iterable[str], cutoff: float = 0.5) -> str | None:
    """The name most like another, whatever their case; None if none is near."""
    by_lower = {right.lower(): right for right in names}
    matches = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=cutoff)
    return by_lower[matches[0]] if matches else None


def first_line(error: BaseException) -> str:
    """What an exception says first, and last where the first line ends in a colon; or its type."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    lines = lines or [type(error).__name__]
    return f"{lines[0]} {lines[-1]}" if lines[0].endswith(":") and lines[1:] else lines[0]


def login_of(url: str) -> str:
    """`user:password@` of an address; empty if it has none.

    A database's password may hold a slash, a web server's may not (RFC 3986, SQLAlchemy).
    """
    scheme, _, rest = url.partition("://")
    pattern = r"[^/]*@" if scheme in ("http", "https") else r"[^:/]*(:.*)?@"
    found = re.match(pattern, rest)
    return found[0] if found else ""


def without_password(url: str) -> str:
    """An address as it may be shown: without its login, and without a query with a password."""
    shown = url.replace(login_of(url), "", 1)
    address, _, query = shown.partition("?")
    return address if "passw" in query.lower() else shown


def short(value: object) -> str:
    """A setting in four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def duration(seconds: float) -> str:
    """Seconds as people say them: 4.1 s, 41 s, 3 min 20 s, 5 h 02 min."""
    if round(seconds) < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"

"""Numbers in sentences."""


def count_of(count: float, word: str, plural: str | None = None) -> str:
    """A count with its word: `1 trial`, `1,200 trials`, `0.5 GPUs`.

    Args:
        count: how many.
        word: of one.
        plural: of several; None adds an s.
    """
    return f"{count:,.12g} {word if count == 1 else plural or word + 's'}"

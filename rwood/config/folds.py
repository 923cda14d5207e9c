"""Which classes a fold leaves out of training, from their number and the share alone."""

import hashlib

FOLD_SEED = 20240617
"""Of the order in which classes are dealt to the folds."""


def folds(classes: int, share: float) -> tuple[tuple[int, ...], ...]:
    """The classes that each fold leaves out, ascending: every class is in exactly one fold.

    There are round(1 / share) folds, as even as possible. The order of the classes is that of
    SHA-256, which is the same on every machine and in every version of every library. 7 classes
    with a share of .2 make 5 folds of 2, 2, 1, 1 and 1 classes.

    Args:
        classes: number of ID classes.
        share: of the classes that a fold leaves out, in (0, 0.5].

    Raises:
        ValueError: a fold would have no class, or leave fewer than two for training.
    """
    count = round(1 / share)
    if count > classes:
        raise ValueError(
            f"{share:g} of {classes} classes is less than one class; the least share is "
            f"{1 / classes:.3g}"
        )
    if classes - -(-classes // count) < 2:
        raise ValueError(f"{share:g} of {classes} classes leaves fewer than two for training")
    order = sorted(range(classes), key=_shuffled)
    return tuple(tuple(sorted(order[start::count])) for start in range(count))


def _shuffled(label: int) -> bytes:
    return hashlib.sha256(f"class {label} {FOLD_SEED}".encode()).digest()

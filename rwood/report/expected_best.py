"""How good the best of k trials is to be expected, from the n trials that were run."""

from collections.abc import Sequence

import numpy as np


def expected_best(values: Sequence[float], k: int) -> float:
    """Expected maximum of k of the trials, drawn without replacement: unbiased for every k.

    Of all subsets of size k, those whose maximum is the i-th smallest value number C(i - 1, k - 1).
    Tang et al., ACL 2020 (arXiv 2004.13705), section 3; the form of Dodge et al., EMNLP 2019
    (1909.03004), draws with replacement and is too low.

    Args:
        values: (n,) one per trial, higher = better.
        k: trials that are drawn, 1 to n.

    Raises:
        ValueError: k is not within 1 and n.

    Example:
        Of 1, 2 and 4 the pairs have the maxima 2, 4 and 4.

        >>> round(expected_best([2.0, 4.0, 1.0], k=2), 3)
        3.333
    """
    count = len(values)
    if not 1 <= k <= count:
        raise ValueError(f"the best of {k} cannot be told from {count} trials")
    # C(i - 1, k - 1) / C(n, k) from the largest value down, each share from the one above it:
    # the binomials themselves overflow from a thousand trials on.
    ranks = np.arange(count, k, -1, dtype=np.float64)
    shares = k / count * np.cumprod(np.concatenate(([1.0], (ranks - k) / (ranks - 1))))
    descending = np.sort(np.asarray(values, dtype=np.float64))[::-1]
    return float(shares @ descending[: len(shares)])

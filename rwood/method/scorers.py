"""Every OOD scorer.

**SCORES: HIGHER = MORE OOD, EVERYWHERE.** OpenOOD's ``conf`` is the negative of these.

A scorer is a frozen dataclass of tensors (what it learned from the ID training set, so it can be
saved as tensors), a ``fit_`` and a ``score_`` function:

- ``fit_<name>(embeddings_ND, labels_N, classes=C)`` takes (N, D) training rows and their (N,)
  integer classes in 0..C-1, some of it where a scorer needs no more. ValueError: rows are empty or
  not finite, or a class has none.
- ``score_<name>(state, embeddings_QD)`` takes what was fitted and (Q, D) queries, and returns (Q,)
  scores. ValueError: queries are empty, not finite or of other dims. MSP and energy, which have
  nothing to fit, take (Q, C) logits alone.

Embeddings are taken as given, raw or unit length, except where a method itself normalises them
(cosine, SSD+).
Statistics are fitted in float64; scores come in the dtype of the query, float32 at least. Matrix
products follow the global float32 precision flags: leave TF32 off for them (the default).
"""

from .gaussian_scorers import (
    Mahalanobis,
    Rmds,
    Ssd,
    fit_mahalanobis,
    fit_rmds,
    fit_ssd,
    nearest_class_mahalanobis,
    score_mahalanobis,
    score_rmds,
    score_ssd,
)
from .head_scorers import (
    Head,
    fit_head,
    score_head_fdbd,
    score_head_gen,
    score_head_mls,
    score_head_nci,
)
from .logit_scorers import LastLayer, Vim, classify, fit_vim, score_energy, score_msp, score_vim
from .neighbour_scorers import Cosine, Knn, fit_cosine, fit_knn, score_cosine, score_knn
from .sum_scorer import HeadSum, fit_head_sum, score_head_sum

__all__ = [
    "Cosine",
    "Head",
    "HeadSum",
    "Knn",
    "LastLayer",
    "Mahalanobis",
    "Rmds",
    "Ssd",
    "Vim",
    "classify",
    "fit_cosine",
    "fit_head",
    "fit_head_sum",
    "fit_knn",
    "fit_mahalanobis",
    "fit_rmds",
    "fit_ssd",
    "fit_vim",
    "nearest_class_mahalanobis",
    "score_cosine",
    "score_energy",
    "score_head_fdbd",
    "score_head_gen",
    "score_head_mls",
    "score_head_nci",
    "score_head_sum",
    "score_knn",
    "score_mahalanobis",
    "score_msp",
    "score_rmds",
    "score_ssd",
    "score_vim",
]

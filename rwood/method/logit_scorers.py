"""OOD scores of a classifier from its logits (MSP, energy) and its last layer (ViM).

**Scores: higher = more OOD** (see `scorers`, which says what every ``fit_`` and ``score_`` takes,
returns and raises).

Legend of shape suffixes: N training rows, Q query rows, D dims, C classes, K directions left to the
residual.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .checks import beside, check_embeddings, chunks, squared_distance
from .statistics import class_moments


@dataclass(frozen=True)
class LastLayer:
    """A classifier's last layer, which is all that MSP and energy need to know; float64."""

    weight_CD: Tensor
    bias_C: Tensor


def classify(layer: LastLayer, embeddings_QD: Tensor) -> Tensor:
    """(Q, C) logits of (Q, D) rows as the classifier sees them; in their dtype, float32 at least.

    Raises:
        ValueError: rows are empty, not finite or of other dims.
    """
    check_embeddings(embeddings_QD, layer.weight_CD.shape[1])
    (wide_QD,) = beside(embeddings_QD, embeddings_QD)
    weight_CD, bias_C = beside(embeddings_QD, layer.weight_CD, layer.bias_C)
    return torch.addmm(bias_C, wide_QD, weight_CD.T)


def score_msp(logits_QC: Tensor) -> Tensor:
    """Minus the largest softmax probability of (Q, C) logits: (Q,) scores in -1..0.

    Hendrycks and Gimpel, ICLR 2017; nothing to fit.
    """
    check_embeddings(logits_QC)
    (wide_QC,) = beside(logits_QC, logits_QC)
    return -wide_QC.softmax(1).amax(1)


def score_energy(logits_QC: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Free energy -T logsumexp(logits / T) of (Q, C) logits, T > 0.

    Liu et al., NeurIPS 2020; nothing to fit.
    """
    check_embeddings(logits_QC)
    (wide_QC,) = beside(logits_QC, logits_QC)
    return -temperature * (wide_QC / temperature).logsumexp(1)


@dataclass(frozen=True)
class Vim(LastLayer):
    """The classifier and the space its training embeddings hardly use; all float64.

    Attributes:
        origin_D: u, the embedding whose logits are nearest to zero.
        residual_DK: directions around u beyond the principal ones.
        alpha: 0-d, scale of the virtual logit.
    """

    origin_D: Tensor
    residual_DK: Tensor
    alpha: Tensor


def fit_vim(embeddings_ND: Tensor, weight_CD: Tensor, bias_C: Tensor, *, dims: int) -> Vim:
    """Residual space and scale of the virtual logit. Wang et al., CVPR 2022.

    Rows, weights and biases are those of the classifier. `dims` principal directions, 1..D-1, are
    left out of the residual.

    Raises:
        ValueError: rows are empty, not finite or of other dims, or `dims` leaves no residual.
    """
    width = weight_CD.shape[1]
    check_embeddings(embeddings_ND, width)
    if not 1 <= dims < width:
        raise ValueError(f"dims = {dims} of {width} leaves ViM no residual space or all of it")
    weight_CD, bias_C = weight_CD.double(), bias_C.double()
    origin_D = -torch.linalg.pinv(weight_CD) @ bias_C
    moments = class_moments(embeddings_ND)
    # Ascending eigenvalues: the first are those the training embeddings use least.
    residual_DK = torch.linalg.eigh(moments.moment_DD(origin_D)).eigenvectors[:, : width - dims]
    wide_ND, layer = embeddings_ND.double(), LastLayer(weight_CD, bias_C)
    lengths_N = squared_distance(wide_ND, origin_D, residual_DK).sqrt()
    largest_N = torch.cat([classify(layer, chunk).amax(1) for chunk in chunks(wide_ND, width)])
    return Vim(weight_CD, bias_C, origin_D, residual_DK, largest_N.sum() / lengths_N.sum())


def score_vim(state: Vim, embeddings_QD: Tensor) -> Tensor:
    """Virtual logit minus the free energy of the true ones: alpha |residual| - logsumexp(logits).

    Queries are as the classifier sees them.
    """
    energy_Q = score_energy(classify(state, embeddings_QD))
    (alpha,) = beside(embeddings_QD, state.alpha)
    lengths_Q = squared_distance(embeddings_QD, state.origin_D, state.residual_DK).sqrt()
    virtual_Q: Tensor = alpha * lengths_Q
    return virtual_Q + energy_Q

"""OOD scores of a linear head that is fitted on frozen embeddings: MLS, GEN, fDBD and NCI.

Whatever trained the embedding, a multinomial logistic regression on it has logits, and what is
known of a classifier's logits can be asked of it.

**Scores: higher = more OOD** (see `scorers`, which says what every ``fit_`` and ``score_`` takes,
returns and raises).

Legend of shape suffixes: N training rows, Q query rows, D dims, C classes, M largest probabilities.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .checks import beside, check_embeddings, chunks
from .logit_scorers import LastLayer, classify

_CHUNK = 8192
_STEPS = 200


@dataclass(frozen=True)
class Head(LastLayer):
    """A linear head and `mean_D`, the mean of the rows it was fitted on; float64."""

    mean_D: Tensor


def fit_head(embeddings_ND: Tensor, labels_N: Tensor, *, classes: int) -> Head:
    """Multinomial logistic regression with a penalty of |W|^2 / (2 N), as scikit-learn's C = 1.

    The mean cross-entropy plus the penalty, the biases free, by L-BFGS from zeros until the largest
    gradient is below 1e-7: the same on every machine to rounding.
    """
    check_embeddings(embeddings_ND)
    with torch.inference_mode(False), torch.enable_grad():
        weight_CD, bias_C = _minimise(embeddings_ND, labels_N.clone(), classes)
    return Head(weight_CD, bias_C, embeddings_ND.double().mean(0))


def _minimise(embeddings_ND: Tensor, labels_N: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Weights and biases of the least penalised cross-entropy."""
    rows, dims = embeddings_ND.shape
    weight_CD = embeddings_ND.new_zeros(classes, dims, dtype=torch.float64).requires_grad_()
    bias_C = embeddings_ND.new_zeros(classes, dtype=torch.float64).requires_grad_()
    optimizer = torch.optim.LBFGS(
        [weight_CD, bias_C], max_iter=_STEPS, tolerance_grad=1e-7, tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure() -> Tensor:
        optimizer.zero_grad()
        penalty = weight_CD.square().sum() / (2.0 * rows)
        penalty.backward()  # type: ignore[no-untyped-call]
        total = penalty.detach()
        for start in range(0, rows, _CHUNK):
            some = slice(start, start + _CHUNK)
            wide_nD = embeddings_ND[some].to(torch.float64, copy=True)
            logits_nC = torch.addmm(bias_C, wide_nD, weight_CD.T)
            loss = F.cross_entropy(logits_nC, labels_N[some], reduction="sum") / rows
            loss.backward()  # type: ignore[no-untyped-call]
            total = total + loss.detach()
        return total

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return weight_CD.detach(), bias_C.detach()


def score_head_mls(head: Head, embeddings_QD: Tensor) -> Tensor:
    """Minus the largest logit. Hendrycks et al., ICML 2022."""
    return -classify(head, embeddings_QD).amax(1)


def score_head_gen(
    head: Head, embeddings_QD: Tensor, *, gamma: float = 0.1, top: int = 100
) -> Tensor:
    """Generalised entropy: the sum of p^gamma (1 - p)^gamma over the M largest probabilities.

    Liu et al., CVPR 2023, of which the authors' confidence is the negative. The smaller `gamma`, in
    0..1, the more small probabilities count; M is `top`, or all classes if they are fewer.
    """
    probabilities_QC = classify(head, embeddings_QD).softmax(1)
    largest_QM = probabilities_QC.topk(min(top, probabilities_QC.shape[1]), dim=1).values
    return (largest_QM * (1.0 - largest_QM)).pow(gamma).sum(1)


def score_head_fdbd(head: Head, embeddings_QD: Tensor) -> Tensor:
    """Minus the distances to the decision boundaries of the other classes, regularised.

    The mean over the other classes c of (l_y - l_c) / |w_y - w_c|, y the predicted class, over the
    distance of the embedding to the training mean. Liu and Qin, ICML 2024 (fDBD). Differs from the
    authors' code: a mean and not a sum, which ranks the same.

    Raises:
        ValueError: one class alone has no boundary.
    """
    classes = head.weight_CD.shape[0]
    if classes < 2:
        raise ValueError("fDBD needs two classes or more")
    gaps_CC = torch.cdist(head.weight_CD, head.weight_CD)
    gaps_CC.fill_diagonal_(1.0)
    gaps_CC, mean_D = beside(embeddings_QD, gaps_CC, head.mean_D)
    scores = []
    for chunk_QD in chunks(embeddings_QD, classes):
        logits_QC = classify(head, chunk_QD)
        best_Q, predicted_Q = logits_QC.max(1)
        far_Q = ((best_Q[:, None] - logits_QC) / gaps_CC[predicted_Q]).sum(1) / (classes - 1)
        scores.append(-far_Q / (chunk_QD - mean_D).norm(dim=1).clamp_min(1e-12))
    return torch.cat(scores)


def score_head_nci(head: Head, embeddings_QD: Tensor, *, alpha: float = 1e-3) -> Tensor:
    """Minus the projection of the predicted class's weights on the centred embedding, and its size.

    -(w_y . z) / |z| - alpha |h|_1 of an embedding h, with z = h - the training mean. Liu and Qin,
    CVPR 2025 (NCI).
    """
    predicted_Q = classify(head, embeddings_QD).argmax(1)
    (wide_QD,) = beside(embeddings_QD, embeddings_QD)
    weight_CD, mean_D = beside(embeddings_QD, head.weight_CD, head.mean_D)
    centred_QD = wide_QD - mean_D
    length_Q = centred_QD.norm(dim=1).clamp_min(1e-12)
    along_Q: Tensor = (weight_CD[predicted_Q] * centred_QD).sum(1) / length_Q
    return -along_Q - alpha * wide_QD.abs().sum(1)

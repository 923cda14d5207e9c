"""Accuracy of a network: nearest class mean, linear probe, a classifier's own logits."""

import torch
from torch import Tensor

from rwood.evaluation.embed import Embedded, EmbeddedID
from rwood.method.statistics import class_means, class_moments


def accuracies(embedded: EmbeddedID, queries: Embedded, labels_Q: Tensor) -> dict[str, float]:
    """`nearest_mean` and, of a classifier, `classifier` accuracy, in percent.

    Share of queries whose nearest class mean (Euclidean) is their own class; and whose largest
    logit is, which is OpenOOD's ACC.

    Args:
        embedded: of the ID sets, with the classifier, if there is one.
        queries: ID images, with their raw rows if there is a classifier.
        labels_Q: (Q,) their classes.
    """
    means_CD = class_means(embedded.train.unit_ND, embedded.labels_N, embedded.classes)
    nearest_Q = torch.cdist(queries.unit_ND.double(), means_CD).argmin(dim=1)
    percent = {"nearest_mean": _percent_right(nearest_Q, labels_Q)}
    if embedded.classifier is not None:
        assert queries.raw_ND is not None
        weight_CD, bias_C = embedded.classifier
        likeliest_Q = torch.addmm(bias_C, queries.raw_ND, weight_CD.T).argmax(dim=1)
        percent["classifier"] = _percent_right(likeliest_Q, labels_Q)
    return percent


def linear_probe_accuracy(
    train_ND: Tensor, labels_N: Tensor, test_QD: Tensor, labels_Q: Tensor, classes: int
) -> float:
    """Accuracy, in percent, of a ridge classifier on one-hot targets (closed form, no iterations).

    The penalty is 1e-6 x the mean eigenvalue of the second-moment matrix: only enough to make the
    system solvable when an embedding has dead dimensions.
    """
    moments = class_moments(train_ND, labels_N, classes=classes)
    mean_D, covariance_DD = moments.mean_D(), moments.total_DD()
    penalty = 1e-6 * covariance_DD.diagonal().mean().clamp_min(1e-300)
    share_C = moments.count_C / len(train_ND)
    # Centred rows sum to nothing, so that the targets need no centring and no N x C matrix.
    weights_DC = torch.linalg.solve(
        covariance_DD + torch.diag(penalty.expand_as(mean_D)),
        (share_C[:, None] * (moments.means_CD - mean_D)).T,
    )
    guess_Q = ((test_QD.double() - mean_D) @ weights_DC + share_C).argmax(dim=1)
    return _percent_right(guess_Q, labels_Q)


def _percent_right(guess_Q: Tensor, labels_Q: Tensor) -> float:
    return 100.0 * float((guess_Q == labels_Q).double().mean())

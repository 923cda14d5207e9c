"""Accuracy of a network: nearest class mean, linear probe, a classifier's own logits."""

import torch
from torch import Tensor

from rwood.evaluation.embed import Embedded, EmbeddedID
from rwood.method.statistics import class_means, class_moments


def accuracies(embedded: EmbeddedID, queries: Embedded, labels_Q: Tensor) -> dict[str, float]:
    """`nearest_mean` and, of a classifier, `classifier` accuracy, in percent.

    Args:
        embedded: of the ID sets, with the classifier, if there is one.
        queries: ID images, with their raw rows if there is a classifier.
        labels_Q: (Q,) their classes.
    """
    means_CD = class_means(embedded.train.unit_ND, embedded.labels_N, embedded.classes)
    percent = {"nearest_mean": nearest_mean_accuracy(means_CD, queries.unit_ND, labels_Q)}
    if embedded.classifier is not None:
        assert queries.raw_ND is not None
        percent["classifier"] = classifier_accuracy(embedded.classifier, queries.raw_ND, labels_Q)
    return percent


def nearest_mean_accuracy(means_CD: Tensor, embeddings_QD: Tensor, labels_Q: Tensor) -> float:
    """Share of queries, in percent, whose nearest class mean (Euclidean) is their own class."""
    nearest_Q = torch.cdist(embeddings_QD.double(), means_CD).argmin(dim=1)
    return 100.0 * float((nearest_Q == labels_Q).double().mean())


def classifier_accuracy(
    classifier: tuple[Tensor, Tensor], raw_QD: Tensor, labels_Q: Tensor
) -> float:
    """Share of queries, in percent, whose largest logit is their own class: OpenOOD's ACC.

    Args:
        classifier: weights (C, D) and biases (C,) of the last layer.
        raw_QD: (Q, D) the backbone's output as it is.
        labels_Q: (Q,) classes.
    """
    weight_CD, bias_C = classifier
    guess_Q = torch.addmm(bias_C, raw_QD, weight_CD.T).argmax(dim=1)
    return 100.0 * float((guess_Q == labels_Q).double().mean())


def linear_probe_accuracy(
    train_ND: Tensor, labels_N: Tensor, test_QD: Tensor, labels_Q: Tensor
) -> float:
    """Accuracy, in percent, of a ridge classifier on one-hot targets (closed form, no iterations).

    The penalty is 1e-6 x the mean eigenvalue of the second-moment matrix: only enough to make the
    system solvable when an embedding has dead dimensions.
    """
    present_C, own_N = torch.unique(labels_N, return_inverse=True)  # a class may have no row
    moments = class_moments(train_ND, own_N, classes=len(present_C))
    mean_D, covariance_DD = moments.mean_D(), moments.total_DD()
    penalty = 1e-6 * covariance_DD.diagonal().mean().clamp_min(1e-300)
    share_C = moments.count_C / len(train_ND)
    # Centred rows sum to nothing, so that the targets need no centring and no N x C matrix.
    weights_DC = torch.linalg.solve(
        covariance_DD + torch.diag(penalty.expand_as(mean_D)),
        (share_C[:, None] * (moments.means_CD - mean_D)).T,
    )
    guess_Q = present_C[((test_QD.double() - mean_D) @ weights_DC + share_C).argmax(dim=1)]
    return 100.0 * float((guess_Q == labels_Q).double().mean())

"""Accuracy of an embedding: nearest class mean, and a linear probe."""

import torch
from torch import Tensor


def class_means(embeddings_ND: Tensor, labels_N: Tensor, classes: int) -> Tensor:
    """(C, D) mean embedding of each class, in float64."""
    sums_CD = torch.zeros(classes, embeddings_ND.shape[1], dtype=torch.float64)
    sums_CD = sums_CD.to(embeddings_ND.device)
    sums_CD.index_add_(0, labels_N, embeddings_ND.double())
    return sums_CD / torch.bincount(labels_N, minlength=classes).unsqueeze(1)


def nearest_mean_accuracy(means_CD: Tensor, embeddings_QD: Tensor, labels_Q: Tensor) -> float:
    """Share of queries, in percent, whose nearest class mean (Euclidean) is their own class."""
    nearest_Q = torch.cdist(embeddings_QD.double(), means_CD).argmin(dim=1)
    return 100.0 * float((nearest_Q == labels_Q).double().mean())


def linear_probe_accuracy(
    train_ND: Tensor, labels_N: Tensor, test_QD: Tensor, labels_Q: Tensor, classes: int
) -> float:
    """Accuracy, in percent, of a ridge classifier on one-hot targets (closed form, no iterations).

    The penalty is 1e-6 x the mean eigenvalue of the second-moment matrix: only enough to make the
    system solvable when an embedding has dead dimensions.
    """
    x_ND = train_ND.double()
    mean_D = x_ND.mean(dim=0)
    x_ND = x_ND - mean_D
    gram_DD = x_ND.T @ x_ND
    penalty = 1e-6 * gram_DD.diagonal().mean().clamp_min(1e-300)
    targets_NC = torch.nn.functional.one_hot(labels_N, classes).double()
    share_C = targets_NC.mean(dim=0)
    weights_DC = torch.linalg.solve(
        gram_DD + penalty * torch.eye(len(gram_DD), dtype=torch.float64, device=gram_DD.device),
        x_ND.T @ (targets_NC - share_C),
    )
    guess_Q = ((test_QD.double() - mean_D) @ weights_DC + share_C).argmax(dim=1)
    return 100.0 * float((guess_Q == labels_Q).double().mean())

"""Every loss a run can minimise.

Each takes projections (cross-entropy: logits) and labels, is a scalar, never synchronises with the
host (unless row counts of ranks or of classes must be found out, see the arguments), and with a
process group is the loss of the global batch: parameter gradients must then be SUMMED over ranks.
The classes are what a training asks for, the functions the losses themselves.
"""

from .cross_entropy import CrossEntropy, cross_entropy_loss
from .loss import Loss, Rows
from .palm import Palm, palm_loss
from .prototypes import Cider, cider_loss, update_prototypes
from .reweightood import ReweightOOD, reweightood_loss
from .supcon import SupCon, supcon_loss

__all__ = [
    "Cider",
    "CrossEntropy",
    "Loss",
    "Palm",
    "ReweightOOD",
    "Rows",
    "SupCon",
    "cider_loss",
    "cross_entropy_loss",
    "palm_loss",
    "reweightood_loss",
    "supcon_loss",
    "update_prototypes",
]

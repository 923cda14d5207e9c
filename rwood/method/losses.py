"""Every loss a run can minimise.

Each takes projections (cross-entropy: logits) and labels, is a scalar, never synchronises with the
host (unless row counts of ranks or of classes must be found out, see the arguments), and with a
process group is the loss of the global batch: parameter gradients must then be SUMMED over ranks.
"""

from .cross_entropy import cross_entropy_loss
from .prototypes import cider_loss, update_prototypes
from .reweightood import reweightood_loss
from .supcon import supcon_loss

__all__ = [
    "cider_loss",
    "cross_entropy_loss",
    "reweightood_loss",
    "supcon_loss",
    "update_prototypes",
]

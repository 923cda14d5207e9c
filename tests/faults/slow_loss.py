"""A loss whose steps take long on any machine, for what must happen within an epoch."""

import time

from torch import Tensor

from rwood.method.loss import WHOLE, Rows
from rwood.method.losses import SupCon

SLOW = "tests.faults.slow_loss:SlowSupCon"
"""Its name in a study."""


class SlowSupCon(SupCon):
    """SupCon that waits for `seconds` in every step."""

    def __init__(self, *, temperature: float = 0.1, seconds: float = 0.5) -> None:
        """Keep the settings; the base temperature is the paper's."""
        super().__init__(temperature=temperature, base_temperature=0.07)
        self.seconds = seconds

    def forward(self, outputs_MD: Tensor, labels_M: Tensor, rows: Rows = WHOLE) -> Tensor:
        """Wait, then SupCon."""
        time.sleep(self.seconds)
        return super().forward(outputs_MD, labels_M, rows)

"""What people see of a study while it runs: here, and from elsewhere by `rwood status`.

```
status   how far a study is, as plain data, and its words
pace     how long the rest will take
tally    what a running study tells -> its status
screens  a live view on a terminal, plain lines elsewhere; both leave the status on disk
```
"""

from rwood.progress.pace import reruns_left, trials_left
from rwood.progress.screens import Lines, LiveView, screen
from rwood.progress.status import LIVE_FILE, Running, Status, duration, read_live, running_lines
from rwood.progress.tally import TRAINS, Tally

__all__ = [
    "LIVE_FILE",
    "TRAINS",
    "Lines",
    "LiveView",
    "Running",
    "Status",
    "Tally",
    "duration",
    "read_live",
    "reruns_left",
    "running_lines",
    "screen",
    "trials_left",
]

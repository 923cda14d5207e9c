"""What people see of a study while it runs: here, and from elsewhere by `rwood status`.

```
status   how far a study is, as plain data, and its words
eta      how long the rest will take
state    what a running study tells -> its status
display  a live view on a terminal, plain lines elsewhere; both leave the status on disk
```
"""

from rwood.progress.display import Lines, LiveView, screen
from rwood.progress.eta import reruns_left, trials_left
from rwood.progress.state import TRAINS, StudyState
from rwood.progress.status import Running, Status, read_live, running_lines

__all__ = [
    "TRAINS",
    "Lines",
    "LiveView",
    "Running",
    "Status",
    "StudyState",
    "read_live",
    "reruns_left",
    "running_lines",
    "screen",
    "trials_left",
]

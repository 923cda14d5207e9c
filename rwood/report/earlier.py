"""What the same trainings showed on the test sets and with the scorers of an earlier benchmark."""

from rwood.report.document import Block, Folded, Text
from rwood.report.inputs import ReportInputs
from rwood.report.tables import key_words, own_key, own_table
from rwood.results import RunResult


def earlier_blocks(inputs: ReportInputs) -> list[Block]:
    """A sentence and the tables of each earlier benchmark, the oldest first."""
    blocks: list[Block] = []
    for number, runs in enumerate(inputs.study.earlier, start=1):
        reruns = sorted((r for r in runs if r.label == inputs.label), key=lambda run: run.seed)
        if not reruns:
            continue
        blocks.append(
            Text(
                f"Benchmark {number} of these checkpoints was on {_asked(reruns[0])}; what differs "
                "above was asked after that, and scored without training. No test set chose the "
                "champion."
            )
        )
        title = f"Benchmark {number}: {inputs.whose}, {key_words(own_key(reruns[0]))}"
        blocks.append(Folded(title, own_table(reruns, own_key(reruns[0]), None, inputs.whose)))
    return blocks


def _asked(run: RunResult) -> str:
    table = run.tables[own_key(run)]
    scorers = dict.fromkeys(key.partition("/")[2] for key in run.tables)
    return (
        f"near sets {', '.join(table.near)}; far sets {', '.join(table.far)}; scored by "
        f"{', '.join(scorers)}"
    )

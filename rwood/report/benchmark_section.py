"""The report's section on the test sets: tables, verdicts, the figure."""

from pathlib import Path

from rwood.report.beside_published import verdict_sentence, verdict_table, verdicts
from rwood.report.document import Block, Folded, Picture, Text, texts
from rwood.report.earlier import earlier_blocks
from rwood.report.figures_scores import draw_benchmark
from rwood.report.finals import power_sentence
from rwood.report.inputs import ReportInputs
from rwood.report.tables import (
    accuracy_sentence,
    gain_table,
    key_words,
    own_key,
    own_table,
    scorer_sentence,
    versus_table,
)
from rwood.results import RunResult


def benchmark_blocks(inputs: ReportInputs, figures: Path) -> list[Block]:
    """Champion and base run on every test OOD set; nothing before the reruns."""
    runs, base, id_set = inputs.runs, inputs.base_runs, inputs.config.benchmark.published
    if not runs:
        return []
    key, whose = own_key(runs[0]), inputs.whose
    blocks: list[Block] = [
        own_table(runs, key, id_set, whose),
        *_verdicts(runs, key, id_set, whose),
        *texts(accuracy_sentence(runs, whose)),
    ]
    if base:
        base_key = own_key(base[0])
        if id_set:
            blocks.append(own_table(base, base_key, id_set, "the base run"))
            blocks += _verdicts(base, base_key, id_set, "the base run")
        blocks += texts(accuracy_sentence(base, "the base run"))
        for metrics in (("fpr95", "auroc"), ("aupr_in", "aupr_out")):
            blocks.append(versus_table(runs, base, metrics, key, base_key))
        gained = gain_table(runs, base)
        blocks += [Text("What the search bought, seed by seed:"), gained] if gained else []
        blocks += texts(power_sentence(runs, base))
    how = (
        "mean with a bar of one population std, and each seed as a dot"
        if len(runs) > 1
        else f"one seed ({runs[0].seed})"
    )
    caption = (
        f"FPR@95 and AUROC on every test OOD set: {how}. Shaded: the means over near and far sets."
    )
    path = draw_benchmark(inputs, figures / "benchmark.png")
    blocks.append(Picture(path, "Benchmark", caption))
    blocks += texts(scorer_sentence(inputs))
    blocks += earlier_blocks(inputs)
    others = [k for k in runs[0].tables if k != key]
    blocks += [Folded(f"{whose.capitalize()}: {key_words(k)}", own_table(runs, k, id_set, whose))
               for k in others]  # fmt: skip
    return blocks


def _verdicts(runs: list[RunResult], key: str, id_set: str | None, whose: str) -> list[Block]:
    """Within the published std or not; nothing where no figure was published."""
    compared = verdicts(runs, key, id_set)
    return (
        [Text(verdict_sentence(compared, whose)), verdict_table(compared, whose)]
        if compared
        else []
    )

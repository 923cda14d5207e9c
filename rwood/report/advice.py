"""What to do with what a study found, in a sentence."""

from rwood.report.inputs import ReportInputs
from rwood.report.tables import gain


def advice(inputs: ReportInputs) -> str:
    """Which settings to take, no bolder than the finals and the test sets allow; else empty.

    Empty before the benchmark, and where nothing was searched.
    """
    finals = inputs.study.finals
    if not inputs.runs or inputs.config.search is None:
        return ""
    if inputs.champion_is_base or (finals is not None and finals.promoted is False):
        return (
            "So do this: keep the base run's settings, which detector/ was trained with; nothing "
            "that was tried is shown to be better."
        )
    gains = {part: gain(inputs.runs, inputs.base_runs, f"{part}ood", "auroc")
             for part in ("near", "far")}  # fmt: skip
    shown = {
        part: difference
        for part, difference in gains.items()
        if difference and difference.beyond_chance
    }
    lost = [part for part, difference in shown.items() if difference.mean < 0]
    won = [part for part, difference in shown.items() if difference.mean > 0]
    if lost:
        return (
            f"So do this: do not switch yet. On {' and '.join(lost)} OOD the champion is behind "
            "the base run beyond the noise between seeds: the validation sets did not foresee it."
        )
    if finals is None and not won:
        return (
            "So do this: keep the base run's settings for now; without finals, the champion is not "
            "shown to be better. More rerun.seeds beside the base run's, or finals, would tell."
        )
    tests = (
        f"the test sets agree on {' and '.join(won)} OOD"
        if won
        else "the test sets neither confirm nor contradict it"
    )
    proof = "it is proved on validation sets, and " if finals is not None else ""
    return f"So do this: train with champion.yaml and use detector/; {proof}{tests}."

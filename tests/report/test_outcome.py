"""What the terminal shows at the end of a study."""

from dataclasses import replace

from a_study import make_config, make_study

from rwood.report.inputs import ReportInputs
from rwood.report.outcome import outcome, outcome_table


def test_the_finding_and_champion_beside_base(inputs: ReportInputs) -> None:
    text = outcome(inputs.config, inputs.study)
    sentence, told, table = text.split("\n\n")
    assert "near-OOD AUROC" in sentence
    assert told.startswith("So do this: ")
    lines = table.splitlines()
    assert lines[0].split() == ["%", "champion", "base", "run", "difference", "p"]
    assert [line.split("  ")[0] for line in lines[1:]] == [
        "near AUROC", "near FPR@95", "far AUROC", "far FPR@95",
    ]  # fmt: skip
    assert len({len(line) for line in lines}) == 1, "columns are aligned"


def test_without_a_base_run_there_is_nothing_to_compare(inputs: ReportInputs) -> None:
    alone = inputs.study.model_copy(update={"runs": tuple(inputs.study.of("champion"))})
    assert outcome_table(replace(inputs, study=alone)).columns == ("%", "champion")
    stayed = alone.model_copy(update={"champion_params": {}})
    assert outcome_table(replace(inputs, study=stayed)).columns == ("%", "base run")


def test_before_the_benchmark_there_is_nothing_to_say() -> None:
    config = make_config()
    assert outcome(config, make_study(config, runs=())) == ""

"""The champion in the words of a model registry."""

import yaml

from rwood.config.run import RunConfig
from rwood.config.study import StudyConfig
from rwood.report.tables import cell, own_key, own_table, row_values
from rwood.results import StudyResult

LIMIT = 5000
"""Characters that a model registry keeps of a description."""


def champion_words(study: StudyConfig, record: StudyResult, run: RunConfig) -> str:
    """Question, chosen settings, what was reached beside what was published, and the whole run.

    Args:
        study: the resolved study.
        record: with the champion's reruns.
        run: the run that made the detector.
    """
    own = tuple(record.of("champion"))
    table = own_table(own, own_key(own[0]), study.benchmark.published, "The champion")
    parts = [study.question]
    if record.champion_params:
        parts.append(f"Chosen:\n\n{_fenced(dict(record.champion_params))}")
    parts += [table.markdown(), f"The run:\n\n{_fenced({'run': run.model_dump(mode='json')})}"]
    while len("\n\n".join(parts)) > LIMIT and len(parts) > 1:
        parts.pop()
    return "\n\n".join(parts)


def champion_tags(record: StudyResult) -> dict[str, str]:
    """Near and far AUROC and FPR@95 of the champion, to be read in a list of versions."""
    own = record.of("champion")
    rows = row_values(own, own_key(own[0]))
    return {
        f"{part}/{metric}": cell(list(rows[f"{part}ood"][metric].values()))
        for part in ("near", "far")
        for metric in ("auroc", "fpr95")
    }


def _fenced(plain: dict[str, object]) -> str:
    return f"```yaml\n{yaml.safe_dump(plain, sort_keys=False)}```"

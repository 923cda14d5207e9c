"""The page of evidence says what the committed records say, and nothing beside it."""

import json
import re
from statistics import fmean

import pytest

from rwood.config.held_out import without_held_out
from rwood.config.run import what_trains
from rwood.config.search import apply
from rwood.config.study import StudyConfig, run_digest
from rwood.report.inputs import ReportInputs
from rwood.report.paired import PairedDifference
from rwood.report.tables import benchmark_files, cell, gain, own_key, row_values
from rwood.results import RunResult
from tests.an_evidence_page import (
    FOLDER,
    NAMES,
    PAGE,
    RESULTS,
    SEARCHED,
    TABLES,
    config_of,
    filled,
    prose,
    record_of,
    scorer_gains,
    settings_measured,
    summed,
)


@pytest.mark.parametrize("name", NAMES)
def test_the_records_are_of_these_study_files(name: str) -> None:
    """What was trained, and how it was searched and proved, is what the file says."""
    config, record = config_of(name), record_of(name)
    asked = StudyConfig.model_validate_json(json.dumps(record.config))
    assert asked.model_copy(update={"cluster": config.cluster}) == config
    assert record.objective == (config.search.primary if config.search else None)
    assert len(record.trials) == (config.search.trials if config.search else 0)
    for run in record.runs:
        chosen = record.champion_params if run.label == "champion" else {}
        asked = apply(config.run, chosen).model_copy(update={"seed": run.seed})
        assert run.digest == run_digest(asked, without_held_out(config.benchmark))
        assert run.run == asked.model_dump(mode="json")
    assert {run.seed for run in record.of("champion")} == set(config.rerun.seeds)


def test_the_settings_share_all_but_the_loss() -> None:
    first, *others = (what_trains(config_of(n).run.model_dump() | {"loss": None}) for n in NAMES)
    assert all(other == first for other in others)
    assert len({str(config_of(name).benchmark) for name in NAMES}) == 1
    for runs in settings_measured().values():
        assert sorted(run.seed for run in runs) == [1, 2, 3, 4, 5, 6, 7, 8]


def test_every_loss_had_the_same_effort() -> None:
    configs = [config_of(name) for name in NAMES]
    assert [name.removeprefix("cpu-") for name in NAMES] == [s.run.loss.name for s in configs]
    efforts = [
        (s.search.trials, s.search.pruner, s.search.objective, s.finals, s.rerun)
        for s in configs
        if s.search is not None
    ]
    assert len(efforts) == len(configs)
    assert all(effort == efforts[0] for effort in efforts)


def test_every_table_is_made_of_the_records() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert sorted(re.findall(r"<!-- ([a-z ]+) -->", page)) == sorted(TABLES)
    assert filled(page, TABLES) == page


def test_no_number_is_written_by_hand() -> None:
    """Prose may count, in whole numbers that the study files hold; it measures nothing."""
    told = prose(PAGE.read_text(encoding="utf-8"))
    assert re.findall(r"\d+[.,]\d+|\d+ ?%|[±+−]\d", told) == []
    counts = set(re.findall(r"(?<![\w.-])\d+(?![\w.-])", told))
    studies = [config_of(path.stem) for path in FOLDER.glob("*.yaml")]
    held = set(re.findall(r"\d+", " ".join(study.model_dump_json() for study in studies)))
    assert counts <= held, counts - held


@pytest.mark.parametrize("name", NAMES)
def test_the_csv_files_are_those_of_the_records(name: str) -> None:
    made = benchmark_files(ReportInputs(record_of(name), config_of(name), {}, {}))
    kept = {path.name: path for path in (RESULTS / name).glob("benchmark*.csv")}
    assert "benchmark.csv" in kept
    for file, path in kept.items():
        assert path.read_text(encoding="utf-8") == made[file]


def test_the_store_says_what_the_records_say() -> None:
    """`compare.json` is what `rwood compare --json` read from MLflow."""
    told = json.loads((RESULTS / "compare.json").read_text(encoding="utf-8"))
    assert [study["name"] for study in told["studies"]] == list(NAMES)
    for study in told["studies"]:
        record = record_of(study["name"])
        for run in record.of("champion"):
            table = run.tables["ood/mahalanobis"].rows()
            seen = study["seeds"][str(run.seed)]
            for part in ("near", "far"):
                assert seen[f"{part}/auroc"] == pytest.approx(table[f"{part}ood"].auroc)
                assert seen[f"{part}/fpr95"] == pytest.approx(table[f"{part}ood"].fpr95)


def test_no_machine_is_named() -> None:
    for path in RESULTS.rglob("*"):
        if path.is_file() and path.suffix != ".png":
            text = path.read_text(encoding="utf-8")
            assert not re.search(r'["\s](/(tmp|root|home|work|opt|Users)|file:)', text), path


def test_the_findings_hold() -> None:
    """What the page says in words."""
    measured = settings_measured()
    base, champion = (measured[f"ReweightOOD, {which}"] for which in ("defaults", "champion"))

    def mean(runs: list[RunResult], key: str, row: str) -> float:
        return fmean(run.tables[key].rows()[row].auroc for run in runs)

    def difference(ours: list[RunResult], theirs: list[RunResult], part: str) -> PairedDifference:
        found = gain(ours, theirs, part, "auroc")
        assert found is not None
        return found

    near = difference(champion, base, "nearood")
    assert near.mean > 0
    assert near.beyond_chance
    assert not difference(champion, base, "farood").beyond_chance
    for key in champion[0].tables:
        assert mean(champion, key, "nearood") > mean(base, key, "nearood")
    gained = [mean(champion, "ood/mahalanobis", row) - mean(base, "ood/mahalanobis", row)
              for row in ("eurosat", "mnist", "texture", "scenes")]  # fmt: skip
    assert [change > 0 for change in gained] == [True, True, False, False]
    for accuracy in ("linear_probe", "nearest_mean"):
        assert fmean(run.id_metrics[accuracy] for run in champion) > fmean(
            run.id_metrics[accuracy] for run in base
        )
    promoted = {name: record_of(name).finals.promoted for name in NAMES}  # type: ignore[union-attr]
    assert promoted == {"cpu-reweightood": True, "cpu-supcon": False, "cpu-cider": False,
                        "cpu-palm": False}  # fmt: skip
    temperature = record_of(SEARCHED).champion_params["loss.temperature"]
    assert float(temperature) > 3 * config_of(SEARCHED).run.loss.temperature  # type: ignore[attr-defined]
    for title, sign in (("SupCon", 1), ("CIDER", -1)):
        other = measured[f"{title}, defaults"]
        apart = difference(other, base, "nearood")
        assert sign * apart.mean > 0
        assert apart.p is not None
        assert 0.01 < apart.p < 0.05
        assert not difference(other, base, "farood").beyond_chance
    palm, gate = measured["PALM, defaults"], record_of("cpu-palm").finals
    for part in ("nearood", "farood"):
        apart = difference(palm, base, part)
        assert apart.mean < 0
        assert apart.beyond_chance
        assert mean(palm, "ood/mahalanobis", part) == min(
            mean(runs, "ood/mahalanobis", part) for runs in measured.values()
        )
    assert gate is not None
    assert all(family.mean > 0 for family in gate.guard.values())
    assert sum("counts for nothing" in note for note in gate.notes) == 3
    assert " ".join(gate.notes) in PAGE.read_text(encoding="utf-8"), "there was the first alone"
    gains = scorer_gains()
    helped = [s for s in ("mls", "gen", "fdbd", "nci")
              if gains["PALM, defaults", "near", f"head_{s}"].beyond_chance]  # fmt: skip
    assert len(helped) == 3
    for title in measured:
        near_sum, far_sum = (gains[title, part, "head_sum"] for part in ("near", "far"))
        assert near_sum.mean > 0
        assert near_sum.beyond_chance == (title != "ReweightOOD, champion")
        assert (far_sum.mean < 0) == (title != "PALM, defaults")
        if title == "PALM, defaults":
            continue
        assert far_sum.beyond_chance == (title != "ReweightOOD, defaults")
        assert (near_sum.mean + far_sum.mean < 0) == (title != "ReweightOOD, defaults")
        for scorer in ("head_mls", "head_gen", "head_fdbd", "head_nci", "rmds", "rmds_unit"):
            assert gains[title, "far", scorer].mean < -5
            helps = gains[title, "near", scorer]
            gained = helps.mean > 0 and helps.beyond_chance
            assert gained == ((title, scorer) == ("CIDER, defaults", "head_nci"))
    both = summed("ReweightOOD, champion", "near")
    assert both.mean > 0
    assert both.p is not None
    assert both.p < 0.001
    every = [(mean(runs, key, "nearood"), title, key)
             for title, runs in measured.items() for key in runs[0].tables]  # fmt: skip
    assert max(every)[1:] == ("ReweightOOD, champion", "ood/head_sum")
    best = max(measured.values(), key=lambda runs: mean(runs, "ood/mahalanobis", "nearood"))
    assert best == champion
    record = record_of(SEARCHED)
    objective = {trial.number: trial.objective or 0.0 for trial in record.trials}
    assert record.champion is not None
    assert near.mean < objective[record.champion] - objective[0]


def test_the_readme_says_what_the_records_say() -> None:
    """Its table row by row, and its sentence."""
    readme = (FOLDER.parents[1] / "README.md").read_text(encoding="utf-8")
    measured = settings_measured()
    champion, base = (measured[f"ReweightOOD, {which}"] for which in ("champion", "defaults"))
    found = gain(champion, base, "nearood", "auroc")
    assert found is not None
    assert found.interval is not None
    low, high = found.interval
    assert (
        f"+{found.mean:.1f} points of near-OOD AUROC over eight fresh seeds (95 % interval "
        f"+{low:.1f} to +{high:.1f}, p = {found.p:.3f})"
    ) in readme
    gained = f"{found.mean:+.2f} ({low:+.2f} to {high:+.2f})", f"{found.p:.3f}"
    for title, runs in measured.items():
        loss, which = title.split(", ")
        near = cell(list(row_values(runs, own_key(runs[0]))["nearood"]["auroc"].values()))
        stayed = "/" if f"{loss}, champion" in measured else "they stay"
        cells = (
            (f"{loss}, champion", "promoted", near, *gained)
            if which == "champion"
            else (f"{loss}, authors' settings", stayed, near, "/", "/")
        )
        assert f"| {' | '.join(cells)} |" in readme


def test_the_readme_says_what_five_searches_on_digits_found() -> None:
    page = (FOLDER.parents[1] / "tests/benchmarks/README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \d \| lr .*$", page, re.M)
    assert len(rows) == 5
    near, far = (
        [re.match(r"\+(\S+) \(.*, p (\S+)\)", row.split(" | ")[at]) for row in rows]
        for at in (3, 4)
    )
    readme = (FOLDER.parents[1] / "README.md").read_text(encoding="utf-8")
    gains, chances = [], []
    for found in (near, far):
        values = sorted(float(match[1]) for match in found if match)
        ps = sorted(match[2] for match in found if match)
        gains.append(f"{values[0]:.2f} to {values[-1]:.2f}")
        chances.append(f"{ps[0]} to {ps[-1]}")
    told = f"ahead by {gains[0]} points near and {gains[1]} far over ten seeds"
    assert f"{told} (p {' and '.join(chances)})" in readme

"""Each way to get a study file wrong, and the sentence that it earns."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from rwood.config.load import load_benchmark, load_study, set_values
from rwood.config.search import settings
from rwood.config.study import RerunConfig, run_digest
from rwood.data.known import check_study
from rwood.errors import SpecError


def edited(tmp_path: Path, digits_file: Path, edit: Any) -> Path:
    data = yaml.safe_load(digits_file.read_text())
    data["benchmark"] = str(digits_file.parent / "benchmarks" / "digits.yaml")
    edit(data)
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


def put(dotted: str, value: Any) -> Any:
    def edit(data: dict[str, Any]) -> None:
        *parents, leaf = dotted.split("/")
        for part in parents:
            data = data[part]
        data[leaf] = value

    return edit


BAD = [
    ("run/loss/temprature", 0.1, ["run.loss.temprature", "unknown", "temperature"]),
    ("run/epoch", 3, ["run.epoch", "did you mean epochs"]),
    ("serach", {}, ["serach", "did you mean search"]),
    ("run/epochs", "many", ["run.epochs", "'many'", "integer"]),
    ("run/epochs", 2.5, ["run.epochs", "2.5", "integer"]),
    (
        "run/loss/temperature",
        0.0,
        ["run.loss.temperature", "0.0", "greater than or equal to 0.005"],
    ),
    ("run/loss/temperature", -1, ["run.loss.temperature", "-1", "0.005"]),
    ("run/optimizer/nesterov", "yes", ["run.optimizer.nesterov", "'yes'", "boolean"]),
    ("run/views/crop_scale", [0.9, 0.2], ["run.views", "low <= high"]),
    ("run/model/backbone", "resnet19", ["run.model.backbone", "resnet19", "resnet18_32x32"]),
    (
        "search/space/loss.temprature",
        {"low": 0.1, "high": 0.2},
        ["search.space", "loss.temprature", "did you mean loss.temperature"],
    ),
    (
        "search/space/loss.temperature",
        {"low": 0.5, "high": 0.2},
        ["search.space.loss.temperature", "low (0.5) is above high (0.2)"],
    ),
    (
        "search/space/loss.temperature",
        {"low": 0.0001, "high": 0.2},
        ["search.space", "loss.temperature", "0.0001", "0.005"],
    ),
    (
        "search/space/loss.temperature",
        {"low": 0.2, "high": 0.5},
        ["search.space", "loss.temperature", "0.1", "first trial"],
    ),
    (
        "search/space/loss.temperature",
        {"low": -1, "high": 0.5, "log": True},
        ["loss.temperature", "log range needs low > 0"],
    ),
    ("search/objective", "val/digit5/auroc", ["search.objective", "did you mean val/digit7/auroc"]),
    ("search/objective", "near/auroc", ["search.objective", "near/auroc", "digit7, flower"]),
    (
        "search/objective",
        ["val/auroc", "val/nearest_meen"],
        ["search.objective", "did you mean val/nearest_mean"],
    ),
    ("search/objective", ["val/auroc", "val/auroc"], ["objective", "named twice"]),
    ("search/objective", [], ["search", "objective: name at least one"]),
    ("search/seeds", [1, 1], ["seeds", "named twice"]),
    ("search/seeds", [0, 3], ["rerun.seeds: 3 is among search.seeds"]),
    ("run/seed", 3, ["rerun.seeds: 3 is run.seed, that of every trial", "no part in choosing"]),
    ("search/seeds", [-1], ["search.seeds.0", "-1"]),
    ("search/sampler", "grid", ["search", "space.loss.between_scale", "a grid needs choices"]),
    ("search/sampler", {"name": "grid", "sead": 5}, ["sampler.sead: a grid has no arguments"]),
    ("search/space/scorer.rtol", {"low": 0, "high": 1}, ["the base run's None is outside"]),
    (
        "search/space",
        {"scorer.k": {"low": 1, "high": 60}, "scorer.name": {"choices": ["mahalanobis", "knnn"]}},
        ["search.space: scorer.name: no scorer is called knnn; did you mean knn?"],
    ),
    ("run/scorer", {"name": "knn", "k": [10, 0]}, ["run.scorer.k.1", "0", "greater than or"]),
    ("run/scorer", {"name": "knn", "k": []}, ["run.scorer.k", "must not be empty"]),
    ("run/scorer", {"k": 0}, ["run.scorer.k", "greater than or equal to 1"]),
    ("run/scorer", {"shrinkage": "some"}, ["run.scorer.shrinkage", "some", "number"]),
    ("run/scorer", {"name": "msp"}, ["run: scorer.name: msp", "logits", "cross_entropy"]),
    ("rerun/scorers", ["knn", "energy"], ["rerun.scorers: energy", "loss.name reweightood"]),
    ("run/loss/name", "cidre", ["run.loss.name", "cidre", "did you mean cider?"]),
    (
        "search/space/loss.momentum",
        {"low": 0.5, "high": 0.9},
        ["search.space: loss.momentum is a setting of loss.name cider and palm, not of rew"],
    ),
    (
        "search/space/loss.name",
        {"choices": ["reweightood", "supcn"]},
        ["search.space: loss", "supcn", "did you mean supcon?"],
    ),
    (
        "search/space/loss.name",
        {"choices": ["supcon", "cider"]},
        ["search.space: loss.name: the base run's reweightood is outside"],
    ),
    ("cluster/gpus_per_worker", 2, ["cluster: gpus_per_worker", "set workers"]),
    ("cluster", {"workers": 2, "gpus_per_worker": 0.5}, ["gpus_per_worker", "cannot share a GPU"]),
    ("rerun/fsood", True, ["rerun.fsood", "no covariate-shifted set"]),
    ("name", "My Study", ["name", "My Study"]),
]


@pytest.mark.parametrize(("key", "value", "words"), BAD, ids=[f"{b[0]}={b[1]}" for b in BAD])
def test_bad_settings_are_named(
    tmp_path: Path, digits_file: Path, key: str, value: Any, words: list[str]
) -> None:
    path = edited(tmp_path, digits_file, put(key, value))
    with pytest.raises(SpecError) as caught:
        load_study(path)
    sentence = str(caught.value)
    assert sentence.startswith(f"{path}: ")
    assert "\n" not in sentence
    for word in words:
        assert word in sentence


def test_a_file_that_is_a_list(tmp_path: Path) -> None:
    path = tmp_path / "list.yaml"
    path.write_text("- a\n- b\n")
    with pytest.raises(SpecError, match="the file is a list; it must be a mapping"):
        load_study(path)


@pytest.mark.parametrize(
    ("text", "word"), [("", "empty"), ("a: [", "not valid YAML"), ("3", "int")]
)
def test_files_that_are_no_mapping(tmp_path: Path, text: str, word: str) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text(text)
    with pytest.raises(SpecError, match=word):
        load_study(path)


def test_a_missing_file_names_the_nearest(digits_file: Path) -> None:
    with pytest.raises(SpecError, match=r"digitss.yaml: no such file; did you mean .*digits.yaml"):
        load_study(digits_file.with_name("digitss.yaml"))


@pytest.mark.parametrize(
    ("dotted", "value", "sentence"),
    [
        ("rerun/seeds", [-1], "rerun.seeds.0: got -1, should be greater than or equal to 0"),
        ("rerun/seeds", [10**20], r"rerun.seeds.0: got 10+, should be less than 2147483648"),
        ("rerun/seeds", [2, 3, 2], "rerun.seeds: 2 is named twice"),
        ("rerun/seeds", [], "rerun.seeds: must not be empty"),
        ("run/epochs", 10**23, r"run.epochs: got 10+, should be less than or equal to 100000"),
        ("search/trials", 10**9, "search.trials: got 1000000000, should be less than or equal"),
        ("search/pruner", {"name": "asha", "min_resource": 50},
         "a trial of 20 epochs would never be judged at epoch 50; lower it"),
        ("search/space", {}, "search.space: must not be empty"),
        ("search/space/loss.temperature", {"choices": [0.1], "low": 1},
         "low cannot stand beside choices: they are two ways to say it"),
        ("search/space/loss.temperature", {"low": 0.05, "high": float("inf")},
         "high: got inf, must be a finite number"),
        ("name", "My Study", "name: got 'My Study', a name has lower-case letters, digits"),
    ],
)  # fmt: skip
def test_values_that_cannot_be_meant(
    tmp_path: Path, digits_file: Path, dotted: str, value: Any, sentence: str
) -> None:
    with pytest.raises(SpecError, match=sentence):
        load_study(edited(tmp_path, digits_file, put(dotted, value)))


def test_a_batch_of_more_images_than_there_are(tmp_path: Path, digits_file: Path) -> None:
    study = load_study(edited(tmp_path, digits_file, put("run/batch_size", 100_000)))
    with pytest.raises(SpecError, match=r"run.batch_size: 100,000 is more than the 759 images of"):
        check_study(study)


def test_a_mistyped_benchmark_does_not_suggest_the_study(tmp_path: Path, digits_file: Path) -> None:
    path = edited(tmp_path, digits_file, put("benchmark", "studie.yaml"))
    with pytest.raises(SpecError, match=r"studie.yaml: no such file$"):
        load_study(path)


def test_a_missing_benchmark_is_named(tmp_path: Path, digits_file: Path) -> None:
    path = edited(tmp_path, digits_file, put("benchmark", "benchmarks/nowhere.yaml"))
    with pytest.raises(SpecError, match="nowhere.yaml: no such file"):
        load_study(path)


def test_a_benchmark_that_contradicts_itself(tmp_path: Path, digits_file: Path) -> None:
    data = yaml.safe_load((digits_file.parent / "benchmarks" / "digits.yaml").read_text())
    path = tmp_path / "benchmark.yaml"
    path.write_text(yaml.safe_dump(data | {"mean": [0.1, 0.2]}))
    with pytest.raises(SpecError, match="mean needs 1 value"):
        load_benchmark(path)
    path.write_text(yaml.safe_dump(data | {"far": data["near"]}))
    with pytest.raises(SpecError, match="digit8 is both a near and a far set"):
        load_benchmark(path)


def test_numbers_as_people_write_them(tmp_path: Path, digits_file: Path) -> None:
    path = tmp_path / "study.yaml"
    text = digits_file.read_text().replace("lr: 0.1", "lr: 5e-2")
    text = text.replace(
        "benchmarks/digits.yaml", str(digits_file.parent / "benchmarks/digits.yaml")
    )
    path.write_text(text)
    study = load_study(path)
    assert study.run.optimizer.lr == 0.05
    assert study.run.optimizer.weight_decay == 1e-4


def test_set_changes_the_base_run_and_is_validated(digits_file: Path) -> None:
    study = load_study(digits_file)
    changed = set_values(study, ["loss.temperature=0.2", "epochs=3", "optimizer.lr=1e-2"])
    assert (changed.run.loss.temperature, changed.run.epochs) == (0.2, 3)
    assert changed.run.optimizer.lr == 0.01
    assert study.run.epochs == 20
    with pytest.raises(SpecError, match="write it as key=value"):
        set_values(study, ["epochs"])
    with pytest.raises(SpecError, match="did you mean loss.temperature"):
        set_values(study, ["loss.temp=1"])
    with pytest.raises(SpecError, match=r"epochs: got 0"):
        set_values(study, ["epochs=0"])


def test_trials_and_settings_of_a_command_line_are_checked_as_the_file_is(
    digits_file: Path, tmp_path: Path
) -> None:
    study = load_study(digits_file, ["epochs=3"], trials=7)
    assert study.search is not None
    assert (study.run.epochs, study.search.trials) == (3, 7)
    with pytest.raises(SpecError, match="the base run's 0.9 is outside the range"):
        load_study(digits_file, ["loss.temperature=0.9"])
    alone = edited(tmp_path, digits_file, put("search", None))
    with pytest.raises(SpecError, match=r"--trials 3: .*study.yaml has no search"):
        load_study(alone, trials=3)


def test_digests_name_content(digits_file: Path) -> None:
    study = load_study(digits_file)
    again = load_study(digits_file)
    assert study.trial_digest == again.trial_digest
    longer = study.model_copy(
        update={"search": study.search.model_copy(update={"trials": 99})}  # type: ignore[union-attr]
    )
    assert longer.trial_digest == study.trial_digest
    other = set_values(study, ["epochs=3"])
    assert other.trial_digest != study.trial_digest
    assert run_digest(other.run, study.benchmark) != run_digest(study.run, study.benchmark)


def test_a_space_over_losses_is_checked_under_each(tmp_path: Path, digits_file: Path) -> None:
    def sentence(space: dict[str, Any], **changes: Any) -> str:
        def edit(data: dict[str, Any]) -> None:
            data["search"]["space"] = space
            for key, value in changes.items():
                data[key] = data.get(key, {}) | value

        with pytest.raises(SpecError) as caught:
            load_study(edited(tmp_path, digits_file, edit))
        return str(caught.value).partition(": ")[2]

    name = {"loss.name": {"choices": ["reweightood", "cider", "cross_entropy"]}}
    assert sentence(name | {"loss.momentun": {"low": 0.1, "high": 0.9}}) == (
        "search.space: loss.momentun is not a setting of a run; did you mean loss.momentum?"
    )
    told = sentence(name | {"loss.base_temperature": {"low": 0.1, "high": 0.9}})
    assert told.endswith(
        "is a setting of loss.name supcon, not of reweightood, cider, cross_entropy"
    )
    told = sentence(name | {"loss.momentum": {"low": 0.1, "high": 1.9}})
    assert told.startswith("search.space: loss.momentum: got 1.9")
    told = sentence(name | {"scorer.name": {"choices": ["mahalanobis", "msp"]}})
    assert told.startswith("search.space: scorer.name: msp scores the logits of a classifier")
    told = sentence(name, rerun={"scorers": ["vim"]})
    assert told.startswith("rerun.scorers: vim scores the logits of a classifier, and a run with")


def test_a_setting_that_not_every_scorer_of_a_space_has(tmp_path: Path, digits_file: Path) -> None:
    def edit(data: dict[str, Any]) -> None:
        data["run"]["scorer"] = {"name": "head_gen"}
        data["search"]["space"] = {
            "scorer.gamma": {"low": 0.05, "high": highest},
            "scorer.name": {"choices": ["knn", "head_gen"]},
        }

    highest = 0.5
    load_study(edited(tmp_path, digits_file, edit))
    highest = -1
    with pytest.raises(SpecError, match=r"search.space.scorer.gamma: low \(0.05\) is above high"):
        load_study(edited(tmp_path, digits_file, edit))
    highest = 50
    with pytest.raises(SpecError, match=r"search.space: scorer.gamma: got 50"):
        load_study(edited(tmp_path, digits_file, edit))


def test_logits_are_scored_where_there_are_some(tmp_path: Path, digits_file: Path) -> None:
    def edit(data: dict[str, Any]) -> None:
        data["run"] |= {"loss": {"name": "cross_entropy"}, "scorer": {"name": "vim", "dims": 8}}
        data["search"], data["rerun"] = None, {"scorers": ["msp", "energy"]}

    study = load_study(edited(tmp_path, digits_file, edit))
    assert study.run.is_classifier
    with pytest.raises(SpecError, match=r"scorer.dims: 32 leaves vim no residual.* has 32 dims"):
        set_values(study, ["scorer.dims=32"])
    with pytest.raises(SpecError, match=r"--set rerun.scorers: (msp|energy) scores the logits"):
        set_values(study, ["loss.name=supcon", "scorer.name=knn"])
    plain = study.model_copy(update={"rerun": RerunConfig()})
    changed = set_values(plain, ["scorer.name=knn", "loss.temperature=0.2", "loss.name=supcon"])
    assert (changed.run.loss.name, settings(changed.run)["loss.temperature"]) == ("supcon", 0.2)
    with pytest.raises(
        SpecError, match="loss.momentum is a setting of loss.name cider and palm, not"
    ):
        set_values(plain, ["loss.momentum=0.2", "loss.name=supcon", "scorer.name=knn"])

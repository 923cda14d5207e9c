"""A study's trials under another space or pruner: carried over, those that fit count.

Optuna compares trials that were drawn from one space. So when a range or the pruner of a study
changes between two starts, its trials go on in a new Optuna study, `digits`, `digits (2)`, ...,
with their numbers. Example: trials 0 to 2 drew a temperature from 0.02 to 0.5 and got .03, .1, .4;
the range is now 0.05 to 1. Trials 1 and 2 are carried over; trial 0 keeps its number and what it
reached as an attribute, and counts neither for the sampler nor for the champion. What the pruner
saw of the trials is carried over while it is the same pruner.
"""

import copy
import re
import warnings
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import distribution_to_json
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from rwood.config.base import digest
from rwood.config.branches import params_of
from rwood.config.optuna_classes import HALVING
from rwood.config.search import apply, contains
from rwood.config.study import StudyConfig, is_minimized
from rwood.errors import StudyError
from rwood.search.journal import StudyStorage
from rwood.search.pruner import build_pruner
from rwood.search.space import Space, distributions

ID, SIGNATURE, READY = "rwood.id", "rwood.space", "rwood.ready"
"""Attributes of an Optuna study: whose trials, of which space and pruner, all of them carried."""
PRUNER = "rwood.pruner"
"""Attribute of an Optuna study: the settings of its pruner."""
OUTSIDE = "outside"
"""Attribute of a trial whose settings are not in the present space: what it had been."""
PRUNING = " pruning"
"""Ends the name of the study of one objective that a pruner sees of a study of several."""


def open_generation(
    study: StudyConfig, store: StudyStorage, record_id: str, *, retry_failed: bool = False
) -> optuna.Study:
    """The Optuna study in which a search goes on.

    Args:
        study: with a search.
        store: where its trials are.
        record_id: of the study's record; another study of the same name has another.
        retry_failed: take failed trials up again, as if they had been interrupted.

    Raises:
        StudyError: the storage holds another study of this name.
        SpecError: the pruner cannot be made.
    """
    search = study.the_search
    space, pruner = distributions(study.run, search), build_pruner(study.run, search)
    settings = search.pruner.model_dump(mode="json") if search.pruner else {}
    signature = digest({key: distribution_to_json(d) for key, d in space.items()}, settings)
    last = latest(store.optuna, study.name)
    if last is not None and last.user_attrs[ID] != record_id:
        raise StudyError(
            f"{store.shown} holds another study named {study.name}: choose another name or storage"
        )
    if last is not None:
        last.pruner = pruner
        failed = any(t.state == TrialState.FAIL and OUTSIDE not in t.user_attrs
                     for t in last.get_trials(deepcopy=False))  # fmt: skip
        if last.user_attrs[SIGNATURE] == signature and not (retry_failed and failed):
            return last
    name = _name_of(1 if last is None else generation_of(last.study_name) + 1, study)
    if name in optuna.get_all_study_names(store.optuna):
        # A process was killed while it carried trials over, in a database.
        optuna.delete_study(study_name=name, storage=store.optuna)
    with store.batch():
        made = _create(store, name, search.objectives)
        made.pruner = pruner
        for key, value in ((ID, record_id), (SIGNATURE, signature), (PRUNER, settings)):
            made.set_user_attr(key, value)
        same_pruner = last is not None and last.user_attrs.get(PRUNER) == settings
        for trial in last.get_trials(deepcopy=False) if last is not None else ():
            made.add_trial(
                _carried(trial, study, space, retry_failed=retry_failed, same_pruner=same_pruner)
            )
        # How far a sequence of QMCSampler was drawn is in no trial: it would begin again.
        told = store.optuna.get_study_system_attrs(last._study_id) if last is not None else {}
        for key, value in told.items():
            if key.startswith("qmc:"):
                store.optuna.set_study_system_attr(made._study_id, key, value)
        made.set_user_attr(READY, True)
    return made


def open_pruning_study(study: StudyConfig, store: StudyStorage, main: optuna.Study) -> optuna.Study:
    """The study that the pruner sees: the main one, or of several objectives one beside it.

    Optuna's pruners take one number. The study beside the main one has its trials, by number, with
    the metric that `pruner.metric` names.
    """
    if len(study.the_search.objectives) == 1:
        return main
    name = main.study_name + PRUNING
    metric = study.the_search.pruning_metric
    index = study.the_search.objectives.index(metric)
    with store.batch():
        if name in optuna.get_all_study_names(store.optuna):
            beside = optuna.load_study(study_name=name, storage=store.optuna)
        else:
            beside = _create(store, name, (metric,))
            beside.set_user_attr(PRUNER, main.user_attrs.get(PRUNER))
        # In a database a process may be killed after a trial was made and before it was here.
        missing = main.get_trials(deepcopy=False)[len(beside.get_trials(deepcopy=False)) :]
        curves = _earlier_curves(study, store, main) if missing else {}
        for trial in missing:
            values = [trial.values[index]] if trial.values else None
            changes: dict[str, Any] = {"user_attrs": {}, "intermediate_values": {}}
            if OUTSIDE not in trial.user_attrs:
                changes |= curves.get(trial.number, {})
            beside.add_trial(_changed(trial, trial.state, values, **changes))
    beside.pruner = main.pruner
    return beside


def _earlier_curves(
    study: StudyConfig, store: StudyStorage, main: optuna.Study
) -> dict[int, dict[str, Any]]:
    """What the main study's pruner saw of each trial, by number, in the generations before."""
    curves: dict[int, dict[str, Any]] = {}
    existing = optuna.get_all_study_names(store.optuna)
    names = [_name_of(n, study) + PRUNING for n in range(1, generation_of(main.study_name))]
    for name in filter(existing.__contains__, names):
        earlier = optuna.load_study(study_name=name, storage=store.optuna)
        same = earlier.user_attrs.get(PRUNER) == main.user_attrs.get(PRUNER)
        for trial in earlier.get_trials(deepcopy=False) if same else ():
            if trial.intermediate_values:  # else it was outside of that generation's space
                curves[trial.number] = {"intermediate_values": trial.intermediate_values,
                                      "system_attrs": _rungs(trial, study)}  # fmt: skip
    return curves


def latest(storage: BaseStorage, name: str) -> optuna.Study | None:
    """A study's last generation that is whole."""
    pattern = re.compile(re.escape(name) + r"(?: \((\d+)\))?")
    names = [n for n in optuna.get_all_study_names(storage) if pattern.fullmatch(n)]
    for generation in sorted(names, key=generation_of, reverse=True):
        study = optuna.load_study(study_name=generation, storage=storage)
        if study.user_attrs.get(READY):
            return study
    return None


def _name_of(generation: int, study: StudyConfig) -> str:
    return study.name if generation == 1 else f"{study.name} ({generation})"


def generation_of(name: str) -> int:
    """1 for `digits`, 2 for `digits (2)`."""
    match = re.search(r" \((\d+)\)$", name)
    return int(match[1]) if match else 1


def _create(store: StudyStorage, name: str, objectives: tuple[str, ...]) -> optuna.Study:
    made = optuna.create_study(
        storage=store.optuna,
        study_name=name,
        directions=["minimize" if is_minimized(metric) else "maximize" for metric in objectives],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna calls names of metrics experimental.
        made.set_metric_names(list(objectives))
    return made


def _rungs(trial: FrozenTrial, study: StudyConfig) -> dict[str, Any]:
    """A trial's value at each rung of successive halving, as Optuna keeps it.

    None of Hyperband, which deals every generation other brackets with other rungs.
    """
    pruner, attributes = study.the_search.pruner, trial.system_attrs
    halving = pruner is not None and pruner.name in HALVING
    return {k: v for k, v in attributes.items() if halving and k.startswith("completed_rung_")}


def _carried(
    trial: FrozenTrial, study: StudyConfig, space: Space, *, retry_failed: bool, same_pruner: bool
) -> FrozenTrial:
    """A trial of an earlier generation in the present space, or marked as outside of it."""
    attributes = dict(trial.user_attrs)
    was = attributes.pop(OUTSIDE, None) or {
        "state": trial.state.name,
        "values": trial.values,
        "curve": trial.intermediate_values,
        "rungs": _rungs(trial, study),
    }
    rungs = was["rungs"] if same_pruner else {}
    state = TrialState[was["state"]]
    if state == TrialState.FAIL and retry_failed:
        state, attributes = TrialState.RUNNING, {}
    params = present_params(trial.params, study)
    if params is None:
        attributes[OUTSIDE] = {**was, "state": state.name, "rungs": rungs}
        return _changed(trial, TrialState.FAIL, None, user_attrs=attributes, intermediate_values={})
    ended = state in (TrialState.COMPLETE, TrialState.PRUNED)
    return _changed(
        trial,
        state,
        was["values"] if ended else None,
        user_attrs=attributes,
        params=params,
        distributions={key: space[key] for key in params},
        intermediate_values={int(step): value for step, value in was["curve"].items()},
        system_attrs=rungs,
    )


def present_params(params: Mapping[str, Any], study: StudyConfig) -> dict[str, Any] | None:
    """A trial's settings in the keys of the present space; None if they are outside of it.

    A setting that is searched only now has the value of the trial's run; one that is no longer
    searched must have the base run's.
    """
    try:
        run = apply(study.run, dict(params))
    except (KeyError, ValueError):
        return None
    space = study.the_search.space
    present = params_of(run, space)
    inside = all(contains(space[key], value) for key, value in present.items())
    return present if inside and apply(study.run, present) == run else None


def _changed(
    trial: FrozenTrial, state: TrialState, values: list[float] | None, **changes: Any
) -> FrozenTrial:
    """A copy of a trial with another state, values and attributes; its times stay."""
    end = (trial.datetime_complete or trial.datetime_start) if state.is_finished() else None
    changed = copy.copy(trial)
    changed.state, changed.values = state, values
    for name, value in {"datetime_complete": end, "system_attrs": {}, **changes}.items():
        setattr(changed, name, value)
    return changed

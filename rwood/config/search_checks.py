"""Whether a search fits the base run and the benchmark of its study; opens nothing."""

from pydantic import ValidationError

from rwood.config.branches import branches, check_range, grid
from rwood.config.losses import LOSSES
from rwood.config.run import RunConfig
from rwood.config.search import PARTS, SearchConfig, contains, settings
from rwood.config.sentences import spec_error
from rwood.config.study import StudyConfig, objectives
from rwood.errors import SpecError
from rwood.text import count_of, did_you_mean


def check_search(study: StudyConfig) -> None:
    """Refuse a search that cannot be had with the study's base run and benchmark.

    Raises:
        SpecError: an objective that nothing reports, a setting that the run does not have or whose
            range it does not allow, a pruner that never judges, or more trials than points.
    """
    search = study.search
    if search is None:
        return
    allowed = objectives(study.benchmark)
    for wanted in search.objectives:
        if wanted in allowed:
            continue
        question = did_you_mean(wanted, allowed, cutoff=0.6)
        hint = f"{question} " if question else ""
        raise SpecError(
            f"search.objective: no validation set of benchmark {study.benchmark.name} "
            f"reports {wanted}; {hint}Sets: {', '.join(study.benchmark.validation)}",
            key="search.objective",
            got=wanted,
            allowed=allowed,
        )
    _check_hyperparameters(study.run, search)
    least = search.pruner.arguments.get("min_resource") if search.pruner else None
    if isinstance(least, int) and least > study.run.epochs:
        raise SpecError(
            f"search.pruner.min_resource: a trial of {count_of(study.run.epochs, 'epoch')} "
            f"would never be judged at epoch {least}; lower it, or set pruner to null",
            key="search.pruner.min_resource",
        )
    points = len(grid(study.run, search.space)) if search.is_grid else search.trials
    if search.trials > points:
        raise SpecError(
            f"search.trials: the grid has {count_of(points, 'point')}, not {search.trials}",
            key="search.trials",
        )


def _check_hyperparameters(run: RunConfig, search: SearchConfig) -> None:
    """Every key is a setting in some branch, every end of its range allowed there."""
    present = settings(run)
    # The names first: what other settings there are depends on them.
    for key, domain in sorted(search.space.items(), key=lambda pair: pair[0] not in PARTS):
        try:
            check_range(run, search.space, key)
        except KeyError:
            raise SpecError(
                f"search.space: {no_such_setting(key, *branches(run, search.space))}", key=key
            ) from None
        except ValidationError as error:
            raise spec_error(error, RunConfig, prefix="search.space: ") from error
        if key in present and not contains(domain, present[key]):
            raise SpecError(
                f"search.space: {key}: the base run's {present[key]} is outside "
                f"the range; it is the first trial, so widen the range or change run.{key}",
                key=key,
            )


def no_such_setting(key: str, *runs: RunConfig) -> str:
    """Why a key is none of a run's, under any of its losses."""
    group, _, leaf = key.partition(".")
    owners = [n for n, kind in LOSSES.items() if group == "loss" and leaf in kind.model_fields]
    if owners:
        names = ", ".join(dict.fromkeys(run.loss.name for run in runs))
        return f"{key} is a setting of loss.name {' and '.join(owners)}, not of {names}"
    allowed = list(dict.fromkeys(name for run in runs for name in settings(run)))
    hint = did_you_mean(key, allowed, f"allowed: {', '.join(allowed)}")
    return f"{key} is not a setting of a run; {hint}"

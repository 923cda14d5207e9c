"""How much each searched setting matters, over trials that can be compared."""

import warnings
from collections.abc import Mapping, Sequence

import optuna
from optuna.trial import create_trial

from rwood.config.run import RunConfig
from rwood.config.search import SearchConfig
from rwood.results import TrialResult
from rwood.search.read_trials import metrics_at
from rwood.search.space import Space, distributions

ENOUGH = 10
"""Trials from which fANOVA's forest is more than noise; with fewer, an earlier rung may do."""
LEAST = 4
"""Trials below which there is nothing to say."""


def importances(
    run: RunConfig, search: SearchConfig, trials: Sequence[TrialResult]
) -> tuple[dict[str, float], str]:
    """Share of the first objective's variance that each setting explains (fANOVA).

    Source: Hutter et al., ICML 2014, as in Optuna. Trials are compared at one epoch: at the end if
    `ENOUGH` are complete, else at the last rung that `ENOUGH` trials reached, else where most did.
    A trial that was pruned counts at the rungs that it reached, on equal terms. Of settings
    that only some losses have, nothing can be said across losses.

    Returns:
        Setting -> share, empty if there is nothing to say; and a sentence on what was compared, or
        on why nothing was.
    """
    if len(search.space) == 1:
        return {}, ""  # one setting explains everything that settings explain
    objective = search.primary
    rungs = search.pruner.rungs(run.warmup_ends, run.epochs) if search.pruner else []
    # A search may choose the number of epochs: the end is the end of each trial.
    ended = {t.number: t.objective for t in trials if t.objective is not None and not t.outside}
    reached = {run.epochs: ended} | {e: _values(trials, e, objective) for e in reversed(rungs)}
    enough = min(ENOUGH, max(map(len, reached.values())))
    epoch, values = next((e, v) for e, v in reached.items() if len(v) >= enough)
    if len(values) < LEAST or len(set(values.values())) < 2:
        return {}, (
            f"Importance of the settings is left out: it takes {LEAST} trials that differ after "
            f"the same number of epochs, and there are {len(set(values.values()))}."
        )
    space = distributions(run, search)
    shares = _shares([t for t in trials if t.number in values], values, space)
    if len(shares) < 2:  # only the choice of the loss is common to all
        return {}, (
            "Importance of the settings is left out: the trials that can be compared have no "
            f"setting in common but {', '.join(shares)}."
        )
    where = "complete trials" if epoch == run.epochs else f"trials that reached epoch {epoch}"
    few = f" (only {len(reached[run.epochs])} are complete)" if epoch < run.epochs else ""
    alone = "" if len(shares) == len(space) else " Settings that not all of them have are left out."
    return shares, (
        f"Importance by fANOVA: the share of the variance of {objective} over {len(values)} {where}"
        f"{few} that each setting explains.{alone}"
    )


def _shares(
    trials: Sequence[TrialResult], values: Mapping[int, float], space: Space
) -> dict[str, float]:
    """Setting -> its share of the variance of the trials' values, the largest first."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study()
    for trial in trials:
        domains = {key: space[key] for key in trial.params}
        value = values[trial.number]
        study.add_trial(create_trial(params=trial.params, distributions=domains, value=value))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a setting that never changed
        # Imported here, since it brings scikit-learn: a second that no other stage needs.
        from optuna.importance import FanovaImportanceEvaluator, get_param_importances

        shares = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
    return {key: float(share) for key, share in shares.items()}


def _values(trials: Sequence[TrialResult], epoch: int, objective: str) -> dict[int, float]:
    """Number -> objective of the trials that got to an epoch without failing."""
    comparable = [t for t in trials if t.state != "failed" and not t.outside]
    metrics = {trial.number: metrics_at(trial, epoch, objective) for trial in comparable}
    return {number: values[objective] for number, values in metrics.items() if values}

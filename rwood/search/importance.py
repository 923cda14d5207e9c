"""How much each searched setting matters, over trials that can be compared."""

import warnings
from collections.abc import Sequence

import optuna
from optuna.importance import FanovaImportanceEvaluator, get_param_importances

from rwood.config.run import RunConfig
from rwood.config.search import SearchConfig
from rwood.results import TrialResult
from rwood.search.read_trials import metrics_at
from rwood.search.space import distributions

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
    stages = [run.epochs, *reversed(rungs)]
    reached = {epoch: _values(trials, epoch, objective) for epoch in stages}
    most = max(reached.values(), key=len)
    epoch, found = next(
        ((e, v) for e, v in reached.items() if len(v) >= min(ENOUGH, len(most))), (0, {})
    )
    if len(found) < LEAST or len(set(found.values())) < 2:
        return {}, (
            f"Importance of the settings is left out: it takes {LEAST} trials that differ after "
            f"the same number of epochs, and there are {len(set(found.values()))}."
        )
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study()
    space = distributions(run, search)
    for trial in trials:
        if trial.number in found:
            study.add_trial(
                optuna.trial.create_trial(
                    params=trial.params,
                    distributions={key: space[key] for key in trial.params},
                    value=found[trial.number],
                )
            )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a setting that never changed
        shares = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
    where = "complete trials" if epoch == run.epochs else f"trials that reached epoch {epoch}"
    few = f" (only {len(reached[run.epochs])} are complete)" if epoch < run.epochs else ""
    if len(shares) < 2:  # only the choice of the loss is common to all
        return {}, (
            "Importance of the settings is left out: the trials that can be compared have no "
            f"setting in common but {', '.join(shares)}."
        )
    alone = "" if len(shares) == len(space) else " Settings that not all of them have are left out."
    return (
        {key: float(share) for key, share in shares.items()},
        f"Importance by fANOVA: the share of the variance of {objective} over {len(found)} {where}"
        f"{few} that each setting explains.{alone}",
    )


def _values(trials: Sequence[TrialResult], epoch: int, objective: str) -> dict[int, float]:
    """Number -> objective of the trials that got to an epoch without failing."""
    comparable = [t for t in trials if t.state != "failed" and not t.outside]
    found = {t.number: metrics_at(t, epoch, objective) for t in comparable}
    return {number: metrics[objective] for number, metrics in found.items() if metrics}

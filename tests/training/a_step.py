"""How a run takes its steps, as the training loop puts it together."""

from functools import partial

from rwood.config.study import StudyConfig
from rwood.training.begin import step_of
from rwood.training.graph import TakeStep
from rwood.training.state import RunState
from rwood.training.train import take_step
from rwood.training.worker import Worker


def steps_of(study: StudyConfig, worker: Worker, state: RunState) -> TakeStep:
    """Without data-parallel training around the encoder."""
    return step_of(
        study.run, worker, state, partial(take_step, study.run, worker, state, state.encoder)
    )

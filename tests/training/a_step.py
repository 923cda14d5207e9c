"""How a run takes its steps, as the training loop puts it together."""

from functools import partial
from pathlib import Path

from rwood.config.study import StudyConfig
from rwood.data import image_sets
from rwood.training.begin import Task, step_of
from rwood.training.graph import TakeStep
from rwood.training.state import RunState
from rwood.training.train import take_step
from rwood.training.worker import Worker


def task_of(study: StudyConfig, worker: Worker, folder: Path) -> Task:
    """What the training of a study's base run is given."""
    train_set = image_sets.open_set(study.benchmark.id.train, study.benchmark, folder)
    return Task(study.run, study.benchmark, worker, folder, train_set)


def steps_of(task: Task, state: RunState) -> TakeStep:
    """Without data-parallel training around the encoder."""
    return step_of(task, state, partial(take_step, task, state, state.encoder))

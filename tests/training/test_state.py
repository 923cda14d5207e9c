"""What a run carries through a step that is skipped, and through a checkpoint."""

from pathlib import Path

import torch

from rwood.training.begin import begin
from rwood.training.worker import LocalWorker
from tests.tiny import tiny
from tests.training.a_step import task_of

CPU = torch.device("cpu")


def test_a_first_step_that_is_skipped_leaves_no_trace(tmp_path: Path) -> None:
    """A loss scale skips a step whose gradient is not finite; so does the fused kernel."""
    study = tiny(tmp_path, search=None)
    worker = LocalWorker(tmp_path, CPU)
    skipped, plain = (begin(task_of(study, worker, tmp_path), "float32") for _ in range(2))
    scaler = torch.amp.GradScaler("cpu", init_scale=1.0)
    for turn, state in ((0, skipped), (1, skipped), (1, plain)):
        images = torch.ones(4, 1, 8, 8)
        state.optimizer.zero_grad()
        loss = state.encoder.train()(images)[:, 0].sum()
        scaler.scale(loss * (torch.inf if turn == 0 else 1.0)).backward()
        scaler.step(state.optimizer)
        scaler.update(1.0)
    pairs = zip(skipped.encoder.parameters(), plain.encoder.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    assert all(p.isfinite().all() for p in skipped.encoder.parameters())


def test_only_the_generators_that_the_loop_uses_are_kept(tmp_path: Path) -> None:
    study = tiny(tmp_path, search=None)
    state = begin(task_of(study, LocalWorker(tmp_path, CPU), tmp_path), "float32")
    kept = state.state_dict()["generators"]
    assert kept["cuda"] is None
    torch.testing.assert_close(kept["cpu"], torch.get_rng_state())


def test_a_run_without_momentum_begins(tmp_path: Path) -> None:
    study = tiny(tmp_path, search=None, run__optimizer={"momentum": 0})
    state = begin(task_of(study, LocalWorker(tmp_path, CPU), tmp_path), "float32")
    assert not state.optimizer.defaults["nesterov"]

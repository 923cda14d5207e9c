"""The CUDA path without a GPU: no tensor on the wrong device, no step that waits for the device."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock, patch

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from rwood.config.backbones import ModelConfig
from rwood.config.load import load_benchmark
from rwood.config.scorers import SCORERS, ScorerConfig, load_scorer
from rwood.data import image_sets
from rwood.evaluation import checkpoints
from rwood.evaluation.embed import Embedded, EmbeddedID, EmbeddingPass, embed
from rwood.evaluation.scorer import FittedScorer, fit
from rwood.method.geometry import enclosing_radii
from rwood.model.batch_norm import convert_global_batch_norm
from rwood.model.checkpoint_keys import save_openood_state
from rwood.model.encoder import build_encoder
from rwood.model.precision import Precision, PrecisionName, precision_on, set_up
from rwood.ray_backend.job import Job, work
from rwood.training import train as loop
from rwood.training.begin import begin
from rwood.training.state import RunState
from rwood.training.worker import LocalWorker
from tests.conftest import STUDIES
from tests.fake_cuda import GPU, HostWait, fake_cuda
from tests.tiny import tiny
from tests.training.a_step import steps_of, task_of

LOSSES = ("reweightood", "supcon", "cider", "palm", "cross_entropy")


def train_an_epoch(folder: Path, loss: str, precision: str, ranks: int = 1) -> RunState:
    """The loop on a fake GPU, up to the end of an epoch, where losses are read."""
    study = tiny(folder, run__loss={"name": loss}, run__precision=precision, search=None)
    task = task_of(study, LocalWorker(folder, GPU, world_size=ranks), folder)
    state = begin(task, None)
    if ranks > 1:  # without DDP's reducer, which wants a CUDA context
        convert_global_batch_norm(state.encoder, dist.group.WORLD)
    with patch.object(loop, "_note", forget):
        loop.train_epoch(task, state, steps_of(task, state), 0, keep=lambda: None)
    return state


def forget(seen: list[Tensor], run: object, state: RunState, epoch: int, rate: float) -> None:
    """In place of reading the losses, the one thing that waits for the device."""
    assert all(loss.device == GPU for loss in seen)
    state.losses += [0.0] * len(seen)
    seen.clear()


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("loss", LOSSES)
def test_a_step_stays_on_the_device(tmp_path: Path, loss: str, precision: str) -> None:
    with fake_cuda():
        state = train_an_epoch(tmp_path, loss, precision)
        assert len(state.losses) == 3
        learned = [*state.encoder.parameters(), *state.loss.parameters()]
        assert all(p.device == GPU for p in learned)
        assert all(p.grad is not None and p.grad.device == GPU for p in learned)


def test_the_peak_is_reset_on_a_device_in_use(tmp_path: Path) -> None:
    """Before its first use a device has no statistics, and torch refuses to reset them."""
    study = tiny(tmp_path, search=None)
    placed: list[bool] = []
    real = Precision.place

    def place(kind: Precision, encoder: nn.Module) -> None:
        real(kind, encoder)
        placed.append(True)

    with (
        fake_cuda(),
        patch.object(Precision, "place", place),
        patch("torch.cuda.reset_peak_memory_stats", lambda device: placed.append(device == GPU)),
    ):
        begin(task_of(study, LocalWorker(tmp_path, GPU), tmp_path), None)
    assert placed == [True, True]


@pytest.mark.parametrize("loss", LOSSES)
def test_a_step_of_two_workers_stays_on_the_device(tmp_path: Path, loss: str) -> None:
    with two_ranks(), fake_cuda():
        state = train_an_epoch(tmp_path, loss, "float32", ranks=2)
        assert len(state.losses) == 3


@contextmanager
def two_ranks() -> Iterator[None]:
    """A group whose collectives do nothing: shapes and devices are what they would be."""
    fake_pg = pytest.importorskip("torch.testing._internal.distributed.fake_pg")
    dist.init_process_group("fake", rank=0, world_size=2, store=fake_pg.FakeStore())
    try:
        yield
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize(
    "wait", ["item", "tolist", "cpu", "nonzero", "numpy"],
)  # fmt: skip
def test_a_step_that_waits_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wait: str
) -> None:
    from rwood.training.loss import loss_of

    def waits(*args: object) -> Tensor:
        loss = loss_of(*args)  # type: ignore[arg-type]
        getattr(loss.detach(), wait)()
        return loss

    monkeypatch.setattr(loop, "loss_of", waits)
    from torch._subclasses.fake_tensor import (
        DataDependentOutputException,
        DynamicOutputShapeException,
    )

    seen = (HostWait, DataDependentOutputException, DynamicOutputShapeException, RuntimeError)
    with fake_cuda(), pytest.raises(seen):
        train_an_epoch(tmp_path, "reweightood", "float32")


def test_a_tensor_on_the_host_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rwood.training.loss import loss_of

    def mixes(*args: object) -> Tensor:
        return (loss_of(*args) + torch.zeros(2)).sum()  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "loss_of", mixes)
    with fake_cuda(), pytest.raises(RuntimeError, match="devices, cuda:0 and cpu"):
        train_an_epoch(tmp_path, "reweightood", "float32")


@pytest.mark.parametrize("name", sorted(set(SCORERS) - {"knn"}))
def test_scores_stay_on_the_device(name: str) -> None:
    """Fitted on the CPU, since a fit asks for values; `knn` does so in each query."""
    generator = torch.Generator().manual_seed(0)
    raw = torch.randn(120, 8, generator=generator)
    unit = torch.nn.functional.normalize(raw, dim=1)
    layer = (torch.randn(4, 8, generator=generator), torch.randn(4, generator=generator))
    rows = Embedded(unit, raw)
    embedded = EmbeddedID(rows, torch.arange(120) % 4, 4, layer, rows)
    fitted = fit(load_scorer({"name": name}), embedded)
    with fake_cuda(), patch("torch.Tensor.__bool__", lambda tensor: True):
        learned = {k: v.to(GPU) for k, v in vars(fitted.state).items() if isinstance(v, Tensor)}
        there = FittedScorer(
            fitted.scorer, replace(fitted.state, **learned), fitted.means_CD.to(GPU)
        )
        queries = Embedded(unit.to(GPU), raw.to(GPU))
        assert there.score(queries).device == GPU
        assert there.nearest(queries).device == GPU


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_sets_are_embedded_on_the_device(tmp_path: Path, precision: PrecisionName) -> None:
    study = tiny(tmp_path, search=None)
    val = image_sets.open_set(study.benchmark.id.val, study.benchmark, tmp_path)
    with fake_cuda():
        encoder = build_encoder(study.run.model, channels=1, seed=0)
        precision_on(precision, GPU, 1).place(encoder)
        made = embed(encoder, val, study.benchmark, GPU, raw=True, how=EmbeddingPass(precision))
    for rows in (made.unit_ND, made.raw_ND):
        assert rows is not None
        assert rows.device == GPU
        assert rows.dtype == torch.float32
        assert rows.shape == (len(val.labels_N), encoder.dim)


def test_the_geometry_stays_on_the_device() -> None:
    """Its questions to the host are answered here: rows are finite, one iteration is enough."""
    answers = iter([True] * 3 + [False])
    rows, labels = torch.randn(12, 8), torch.arange(12) % 3
    with (
        fake_cuda(),
        patch("torch.bincount", lambda labels, minlength: labels[:minlength].clone()),
        patch("torch.Tensor.__bool__", lambda tensor: next(answers)),
        patch("torch.Tensor.__int__", lambda tensor: 4),
    ):
        radii = enclosing_radii(rows.to(GPU), labels.to(GPU), classes=3)
        assert radii.device == GPU
        assert radii.shape == (3,)


def test_a_checkpoint_is_scored_as_training_places_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ModelConfig(backbone="resnet18_32x32", width=8)
    save_openood_state(build_encoder(config, channels=3, seed=0), tmp_path / "best.ckpt")
    benchmark = load_benchmark(STUDIES / "benchmarks" / "cifar10.yaml")
    placed: list[Precision] = []
    monkeypatch.setattr(Precision, "place", lambda precision, encoder: placed.append(precision))
    monkeypatch.setattr(checkpoints, "run_benchmark", Mock(side_effect=KeyboardInterrupt))
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.evaluate_checkpoints(
            [tmp_path / "best.ckpt"], benchmark, [ScorerConfig()], data_root=tmp_path, device=GPU
        )
    assert placed == [Precision("float32", GPU, channels_last=True)]
    assert torch.backends.cudnn.benchmark


def test_deterministic_mode_is_of_one_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    study, modes = tiny(tmp_path, run__epochs=1, search=None), []
    threads = torch.get_num_threads()
    for name, wish in (("a", True), ("b", False)):
        job = Job(
            study.run, study.benchmark, tmp_path, tmp_path / name, threads=1, deterministic=wish
        )

        def look(report: object) -> None:
            set_up(GPU)
            enabled = torch.are_deterministic_algorithms_enabled()
            modes.append((enabled, torch.backends.cudnn.benchmark))

        work(job, LocalWorker(job.folder, torch.device("cpu"), look))
    torch.set_num_threads(threads)
    assert modes == [(True, False), (False, True)]

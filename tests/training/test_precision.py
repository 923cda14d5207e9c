"""Half precision: close to float64, chosen without a trace, kept on resume; compiled once."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.backends.common import aot_autograd
from torch._dynamo.testing import CompileCounter

from rwood.config.backbones import ModelConfig
from rwood.model.encoder import Encoder, build_encoder
from rwood.model.precision import Precision
from rwood.paths import RunPaths
from rwood.results import EpochReport
from rwood.training import checkpoint, compiled
from rwood.training import precision as module
from rwood.training.precision import choose_precision
from rwood.training.train import train
from rwood.training.worker import LocalWorker
from tests.tiny import tiny

CPU = torch.device("cpu")


class Stop(Exception):
    """Stands for whatever ends a run in the middle."""


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(module, "_CHOSEN", {})
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def prefer(monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    """A CPU on which one of the two is faster."""
    monkeypatch.setattr(module, "cpu_has_bfloat16", lambda: True)
    monkeypatch.setattr(module, "_seconds_a_step", lambda *args: float(args[-1] != precision))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(RunPaths(folder).encoder, weights_only=True)
    return state


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize(("precision", "least"), [("float32", 0.9999), ("bfloat16", 0.9)])
def test_the_gradient_of_a_resnet_against_float64(precision: Any, least: float) -> None:
    config = ModelConfig(backbone="resnet18_32x32", width=8, projection_dim=16)
    images = torch.randn(32, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    kind = Precision(precision, CPU, channels_last=precision != "float32")
    gradients = []
    for dtype in (torch.float64, torch.float32):
        encoder = build_encoder(config, channels=3, seed=0).to(dtype)
        target = torch.randn(32, 16, generator=torch.Generator().manual_seed(1)).to(dtype)
        if dtype == torch.float64:
            projections = encoder(images.to(dtype))
        else:
            kind.place(encoder)
            with kind.autocast():
                projections = encoder(kind.lay_out(images))
            assert projections.dtype == torch.float32
        (projections * target).sum().backward()  # type: ignore[no-untyped-call]
        parts = [p.grad.double().flatten() for p in encoder.parameters() if p.grad is not None]
        gradients.append(torch.cat(parts))
    assert torch.cosine_similarity(*gradients, dim=0) > least


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_run_in_half_precision_learns(tmp_path: Path, precision: str) -> None:
    study = tiny(tmp_path, run__precision=precision)
    seen: list[EpochReport] = []
    train(study.run, study.benchmark, LocalWorker(tmp_path, CPU, seen.append), data_root=tmp_path)
    losses = [report.metrics["train/loss"] for report in seen]
    assert losses[-1] < losses[0]
    bits = {"bfloat16": 8, "float16": 11}[precision]
    assert all(report.metrics["sys/significand_bits"] == bits for report in seen)
    assert all(v.dtype in (torch.float32, torch.int64) for v in weights(tmp_path).values())


@pytest.mark.parametrize(("first", "then"), [("bfloat16", "float32"), ("float32", "bfloat16")])
def test_a_resumed_run_keeps_the_precision_it_started_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str, then: str
) -> None:
    study = tiny(tmp_path, run__precision="auto", run__epochs=3)
    prefer(monkeypatch, first)
    train(study.run, study.benchmark, LocalWorker(tmp_path / "whole", CPU), data_root=tmp_path)

    def stop(report: EpochReport) -> None:
        if report.epoch == 2:
            raise Stop

    broken = LocalWorker(tmp_path / "broken", CPU, stop)
    with pytest.raises(Stop):
        train(study.run, study.benchmark, broken, data_root=tmp_path)
    monkeypatch.setattr(module, "_CHOSEN", {})
    prefer(monkeypatch, then)  # another machine, another opinion
    reports: list[EpochReport] = []
    again = LocalWorker(tmp_path / "broken", CPU, reports.append)
    train(study.run, study.benchmark, again, data_root=tmp_path)
    assert equal(weights(tmp_path / "whole"), weights(tmp_path / "broken"))
    assert len({report.metrics["sys/significand_bits"] for report in reports}) == 1


def test_timing_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = tiny(tmp_path, run__precision="auto")
    encoder = build_encoder(study.run.model, channels=1, seed=0)
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    random, calls = torch.get_rng_state(), []
    real = module._seconds_a_step

    def counted(*args: Any) -> float:
        calls.append(args[-1])
        return real(*args)

    monkeypatch.setattr(module, "cpu_has_bfloat16", lambda: True)
    monkeypatch.setattr(module, "_seconds_a_step", counted)
    for _ in range(2):
        found = choose_precision(study.run, study.benchmark, encoder, LocalWorker(tmp_path, CPU))
    assert calls == ["float32", "bfloat16"]  # once a process
    assert found.name in calls
    assert equal(before, encoder.state_dict())
    assert all(p.grad is None for p in encoder.parameters())
    assert torch.equal(random, torch.get_rng_state())


def test_auto_gives_the_bits_of_the_precision_it_chose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "cpu_has_bfloat16", lambda: True)
    for name in ("auto", "float32", "bfloat16"):
        study = tiny(tmp_path, run__precision=name, run__epochs=1)
        folder = tmp_path / name
        train(study.run, study.benchmark, LocalWorker(folder, CPU), data_root=tmp_path)
    (chosen,) = module._CHOSEN.values()
    other = "float32" if chosen == "bfloat16" else "bfloat16"
    assert equal(weights(tmp_path / "auto"), weights(tmp_path / chosen))
    assert not equal(weights(tmp_path / "auto"), weights(tmp_path / other))


def test_a_cpu_without_bfloat16_computes_in_float32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = {"architecture": "x86_64", "avx512_f": True, "avx512_bf16": False}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: features)
    assert not module.cpu_has_bfloat16()
    study = tiny(tmp_path, run__precision="auto")
    encoder = build_encoder(study.run.model, channels=1, seed=0)
    found = choose_precision(study.run, study.benchmark, encoder, LocalWorker(tmp_path, CPU))
    assert (found.name, found.channels_last) == ("float32", False)
    features["avx512_bf16"] = True
    assert module.cpu_has_bfloat16()


def test_layout_and_scale_follow_the_device(tmp_path: Path) -> None:
    study = tiny(tmp_path, run__precision="auto")
    grey = choose_precision(
        study.run, study.benchmark, torch.nn.Identity(), LocalWorker(tmp_path, torch.device("cuda"))
    )
    assert (grey.name, grey.channels_last) == ("float16", False)
    for precision, device, channels_last in (
        ("float32", "cpu", True),
        ("bfloat16", "cpu", True),
        ("float32", "cuda", True),
        ("float16", "cuda", True),
    ):
        found = module.precision_on(precision, torch.device(device), channels=3)  # type: ignore[arg-type]
        assert found.channels_last is channels_last
    assert Precision("float16", CPU, False).scaler().get_scale() == 2**12
    assert not Precision("bfloat16", CPU, False).scaler().is_enabled()


def test_momenta_of_another_layout_follow_the_weights(tmp_path: Path) -> None:
    """A run that began on a GPU, whose layout is channels last, goes on here in plain layout."""
    study = tiny(tmp_path, run__epochs=2)
    train(study.run, study.benchmark, LocalWorker(tmp_path / "run", CPU), data_root=tmp_path)
    plain = weights(tmp_path / "run")
    first = torch.load(tmp_path / "run" / "epoch-0001.pt", weights_only=True)
    for held in first["optimizer"]["state"].values():
        momentum = held["momentum_buffer"]
        if momentum.dim() == 4:
            held["momentum_buffer"] = momentum.contiguous(memory_format=torch.channels_last)
    moved = {k: v for k, v in first.items() if k not in ("digest", "epoch")}
    checkpoint.save(tmp_path / "moved", 1, first["digest"], moved)
    train(study.run, study.benchmark, LocalWorker(tmp_path / "moved", CPU), data_root=tmp_path)
    assert equal(plain, weights(tmp_path / "moved"))


def test_two_trials_of_a_process_share_compiled_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch._dynamo.reset()
    counter, real = CompileCounter(), Encoder.compile
    monkeypatch.setattr(Encoder, "compile", lambda self, **how: real(self, backend=counter, **how))
    monkeypatch.setattr(compiled, "_why_not", lambda kind: None)
    counts = []
    for name, temperature, seed in (("a", 0.1, 0), ("b", 0.3, 2)):
        study = tiny(
            tmp_path,
            run__compile=True,
            run__epochs=1,
            run__seed=seed,
            run__loss={"name": "reweightood", "temperature": temperature},
            run__optimizer={"lr": 0.1 + 0.1 * seed},
        )
        folder = tmp_path / name
        train(study.run, study.benchmark, LocalWorker(folder, CPU), data_root=tmp_path)
        counts.append(counter.frame_count)
    torch._dynamo.reset()
    assert counts[0] in (1, 2)  # the last batch of an epoch is smaller
    assert counts[1] == counts[0]


def test_a_search_over_batch_sizes_stays_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch stops at eight shapes of a process and runs what is new uncompiled."""
    monkeypatch.setattr(compiled, "_why_not", lambda kind: None)
    torch._dynamo.reset()
    assert compiled.compiles(True, CPU, print)
    counter = CompileCounter()
    doubled = torch.compile(lambda batch: 2 * batch, backend=counter, dynamic=False)
    for views in range(2, 22):
        doubled(torch.ones(views))
    torch._dynamo.reset()
    assert counter.frame_count == 20


def broken(*args: Any, **kwargs: Any) -> Any:
    raise RuntimeError("no C++ compiler")


def test_where_torch_cannot_compile_a_run_says_so_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", broken)
    compiled._why_not.cache_clear()
    notes: list[str] = []
    study = tiny(tmp_path, run__compile=True, run__epochs=1)
    worker = LocalWorker(tmp_path / "run", CPU, on_note=notes.append)
    train(study.run, study.benchmark, worker, data_root=tmp_path)
    compiled._why_not.cache_clear()
    assert notes == [
        "compile: torch cannot compile here (RuntimeError: no C++ compiler); network and views "
        "run uncompiled"
    ]


@pytest.mark.parametrize(
    "backend",
    [broken, aot_autograd(fw_compiler=lambda graph, _: graph.forward, bw_compiler=broken)],
    ids=["forward", "backward"],
)
def test_a_network_that_cannot_be_compiled_runs_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: Any
) -> None:
    real = Encoder.compile
    monkeypatch.setattr(Encoder, "compile", lambda self, **how: real(self, backend=backend, **how))
    monkeypatch.setattr(compiled, "_why_not", lambda kind: None)
    torch._dynamo.reset()
    for name, wish in (("plain", False), ("asked", True)):
        study = tiny(tmp_path, run__compile=wish, run__epochs=1)
        train(study.run, study.benchmark, LocalWorker(tmp_path / name, CPU), data_root=tmp_path)
    torch._dynamo.reset()
    assert equal(weights(tmp_path / "plain"), weights(tmp_path / "asked"))


@pytest.mark.parametrize(
    ("wish", "kind", "asked"),
    [("auto", "cpu", 0), ("auto", "cuda", 1), (False, "cuda", 0), (True, "cpu", 1)],
)
def test_auto_compiles_on_a_gpu(
    monkeypatch: pytest.MonkeyPatch, wish: Any, kind: str, asked: int
) -> None:
    probed: list[str] = []
    monkeypatch.setattr(compiled, "_why_not", probed.append)
    assert compiled.compiles(wish, torch.device(kind), print) == bool(asked)
    assert probed == [kind] * asked

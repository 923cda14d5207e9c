"""The parts of `gpu.py` that need a training step and nothing else."""

import multiprocessing
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from rwood.config.backbones import ModelConfig
from rwood.method.losses import reweightood_loss
from rwood.model.encoder import build_encoder
from rwood.model.precision import Precision, precision_on
from rwood.training.graph import captured
from rwood.training.worker import best_device

DEVICE = best_device()
GPU = DEVICE.type == "cuda"
HYPERPARAMETERS = {
    "temperature": 0.1,
    "within_scale": 2.0,
    "within_shift": 1.0,
    "between_scale": 5.0,
    "between_shift": 4.0,
}


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    width: int = 64
    batch: int = 512
    divisor: int = 1
    """Of the number of images in a set."""
    steps: int = 30
    product: int = 8192
    copied: int = 2**30
    pil: int = 4096
    packed_seconds: float = 10.0


SMALL = Size(8, 16, 250, 3, 512, 2**24, 128, 2.0)


class Step:
    """A training step on one batch that stays where it is."""

    def __init__(self, size: Size, precision: str, views: int | None = None) -> None:
        self.kind: Precision = precision_on(precision, DEVICE, 3)  # type: ignore[arg-type]
        config = ModelConfig(backbone="resnet18_32x32", width=size.width)
        self.encoder = build_encoder(config, channels=3, seed=0).train()
        self.kind.place(self.encoder)
        self.sgd = torch.optim.SGD(
            self.encoder.parameters(), lr=1e-3, momentum=0.9, nesterov=True, fused=True
        )
        self.scaler = self.kind.scaler()
        generator = torch.Generator().manual_seed(0)
        count = views or 2 * size.batch
        self.images = torch.randn(count, 3, 32, 32, generator=generator).to(DEVICE)
        self.labels = torch.randint(0, 10, (count,), generator=generator).to(DEVICE)

    def loss(self) -> Tensor:
        with self.kind.autocast():
            projections = self.encoder(self.kind.lay_out(self.images))
        return reweightood_loss(projections, self.labels, **HYPERPARAMETERS)

    def __call__(self) -> Tensor:
        self.sgd.zero_grad(set_to_none=True)
        loss = self.loss()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.sgd)
        self.scaler.update()
        return loss.detach()

    def gradient(self) -> Tensor:
        """Unscaled, flat, float64."""
        self.encoder.zero_grad()
        scale = 2.0**12 if self.kind.name == "float16" else 1.0
        (self.loss() * scale).backward()
        return torch.cat([p.grad.double().flatten() for p in self.encoder.parameters()]) / scale


def wait() -> None:
    if GPU:
        torch.cuda.synchronize()


def seconds(run, steps: int) -> float:
    """Of one call, after three unmeasured ones."""
    for _ in range(3):
        run()
    wait()
    start = time.perf_counter()
    for _ in range(steps):
        run()
    wait()
    return (time.perf_counter() - start) / steps


def ceilings(size: Size) -> dict[str, float]:
    source = torch.zeros(size.copied, dtype=torch.uint8, device=DEVICE)
    target = torch.empty_like(source)
    once = seconds(lambda: target.copy_(source), 10)
    found = {"copy, read + write, GB/s": 2e-9 * size.copied / once}
    kinds = [("float32", False), ("float32", True), ("bfloat16", False), ("float16", False)]
    for name, tf32 in kinds if GPU else kinds[::2]:
        torch.backends.cuda.matmul.allow_tf32 = tf32
        a = torch.randn(size.product, size.product, device=DEVICE).to(getattr(torch, name))
        once = seconds(lambda a=a: a @ a, 10)
        found[f"product, {'TF32' if tf32 else name}, TFLOP/s"] = 2e-12 * size.product**3 / once
    torch.backends.cuda.matmul.allow_tf32 = False
    return found


def training_steps(size: Size) -> dict[str, float]:
    """Milliseconds of a step; float32 convolutions are TF32 on a GPU, as the authors have them."""
    found = {}
    for precision in ("float32", "bfloat16", "float16") if GPU else ("float32", "bfloat16"):
        name = "TF32" if GPU and precision == "float32" else precision
        step = Step(size, precision)
        found[f"{name} eager, ms"] = 1e3 * seconds(step, size.steps)
        if GPU:
            start = time.perf_counter()
            step.encoder.compile()
            step()
            wait()
            found[f"{name} first compiled step, s"] = time.perf_counter() - start
            found[f"{name} compiled, ms"] = 1e3 * seconds(step, size.steps)
            found[f"{name} compiled in a CUDA graph, ms"] = 1e3 * seconds(
                captured(step)[0].replay, size.steps
            )
    return found


def gradient_error(size: Size) -> dict[str, float]:
    """Relative error and cosine against float64, 96 views."""
    exact = Step(size, "float32", views=96)
    exact.encoder.double()
    exact.images = exact.images.double()
    wide = exact.gradient()
    found = {}
    for precision in ("float32", "bfloat16", "float16") if GPU else ("float32", "bfloat16"):
        ours = Step(size, precision, views=96).gradient()
        found[f"{precision}, error"] = float((ours - wide).norm() / wide.norm())
        found[f"{precision}, cosine"] = float(torch.cosine_similarity(ours, wide, dim=0))
    return found


def packed(size: Size) -> dict[str, float]:
    """Steps a second of one and of two processes that share the device, from graphs as in a run.

    Kernel by kernel the host would be half of what they wait for, which runs do not.
    """
    context, rates = multiprocessing.get_context("spawn"), []
    for count in (1, 2):
        barrier, done = context.Barrier(count), context.Queue()
        ranks = [context.Process(target=_steps, args=(size, barrier, done)) for _ in range(count)]
        for rank in ranks:
            rank.start()
        rates.append(sum(done.get(timeout=120 + size.packed_seconds) for _ in ranks))
        for rank in ranks:
            rank.join()
    names = ("one process, steps/s", "two processes, steps/s")
    return dict(zip(names, rates, strict=True)) | {"gain": rates[1] / rates[0]}


def _steps(size: Size, barrier, done) -> None:
    torch.set_num_threads(1)
    step = Step(size, "float16" if GPU else "float32")
    seconds(step, 1)
    take = captured(step)[0].replay if GPU else step
    barrier.wait()
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < size.packed_seconds:
        take()
        wait()
        count += 1
    done.put(count / (time.perf_counter() - start))

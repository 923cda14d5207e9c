"""A whole training step of ResNet-18 on 32x32 images: ours on a CPU against the authors' way."""

import copy
import statistics
import time

import pytest
import torch
from pairs import compare
from test_loss import NUMBERS, boolean_mask_loss

from rwood.config.backbones import ModelConfig
from rwood.method.losses import cider_loss, reweightood_loss, supcon_loss
from rwood.model.encoder import build_encoder
from rwood.model.precision import Precision, precision_on
from rwood.training.precision import cpu_has_bfloat16

VIEWS = 128
GFLOP_A_VIEW = 3.331
"""Forward and backward pass of ResNet-18 with its head, multiplications and additions."""
SGD = {"lr": 1e-3, "momentum": 0.9, "weight_decay": 1e-4, "nesterov": True}
CPU = torch.device("cpu")


class Side:
    """Weights, optimiser and batch of one of the two."""

    def __init__(self, encoder, kind, loss, **optimizer):
        self.encoder, self.kind, self.loss = copy.deepcopy(encoder).train(), kind, loss
        kind.place(self.encoder)
        self.sgd = torch.optim.SGD(self.encoder.parameters(), **SGD, **optimizer)
        generator = torch.Generator().manual_seed(0)
        # Classes differ in their pixels, so that the gradient is more than noise.
        self.labels = torch.randint(0, 10, (VIEWS,), generator=generator)
        classes = torch.randn(10, 3, 32, 32, generator=generator)
        noise = torch.randn(VIEWS, 3, 32, 32, generator=generator)
        self.images = classes[self.labels] + 0.5 * noise

    def step(self):
        self.sgd.zero_grad(set_to_none=True)
        with self.kind.autocast():
            projections = self.encoder(self.kind.lay_out(self.images))
        self.loss(projections, self.labels).backward()
        self.sgd.step()

    def gradient(self):
        return torch.cat([p.grad.double().flatten() for p in self.encoder.parameters()])


def gemm_gflops(dtype, size=2048):
    """What one core reaches on a plain product: the ceiling of a step."""
    a, b = (torch.randn(size, size).to(dtype) for _ in range(2))
    times = []
    for _ in range(4):
        start = time.process_time()
        a @ b
        times.append(time.process_time() - start)
    return 2e-9 * size**3 / statistics.median(times[1:])


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_step(precision):
    torch.set_num_threads(1)
    if precision == "bfloat16" and not cpu_has_bfloat16():
        print("\nno bfloat16 in this CPU: `auto` keeps float32, the row below is the slower side")
    encoder = build_encoder(ModelConfig(backbone="resnet18_32x32"), channels=3, seed=0)
    half = precision == "bfloat16"
    reference = Side(encoder, Precision("float32", CPU, False), boolean_mask_loss, foreach=True)
    ours = Side(
        encoder,
        precision_on(precision, CPU, 3),
        lambda projections, labels: reweightood_loss(projections, labels, **NUMBERS),
        fused=True,
    )
    for side in (reference, ours):
        side.step()
    cosine = torch.cosine_similarity(reference.gradient(), ours.gradient(), dim=0).item()
    assert cosine > (0.9 if half else 0.9999)
    target = ">= 2" if half else "none"
    seconds = []

    def timed():
        start = time.process_time()
        ours.step()
        seconds.append(time.process_time() - start)

    compare(
        f"ResNet-18 step, {VIEWS} views, {precision}",
        reference.step,
        timed,
        target=target,
        pairs=5 if half else 3,
    )
    reached = GFLOP_A_VIEW * VIEWS / statistics.median(seconds[1:])
    ceiling = gemm_gflops(torch.bfloat16 if half else torch.float32)
    print(
        f"| the same, {precision} | {reached:.0f} GFLOP/s | plain product {ceiling:.0f} GFLOP/s | "
        f"{reached / ceiling:.2f} of it | gradient cosine {cosine:.4f} | target >= 0.8 |"
    )


def test_ciders_step_beside_supcons():
    """The whole step of the training loop's losses on the same network and images."""
    torch.set_num_threads(1)
    encoder = build_encoder(ModelConfig(backbone="resnet18_32x32", width=16), channels=3, seed=0)
    start = torch.nn.functional.normalize(torch.randn(10, 128), dim=1)
    held = [start]

    def cider(projections, labels):
        largest = int(torch.bincount(labels).max())
        numbers = {"temperature": 0.1, "momentum": 0.95, "compactness_weight": 2.0}
        loss, held[0] = cider_loss(projections, labels, held[0], longest_class=largest, **numbers)
        return loss

    def supcon(projections, labels):
        return supcon_loss(projections, labels, temperature=0.1, base_temperature=0.07)

    kind = Precision("float32", CPU, False)
    sides = [Side(encoder, kind, loss, fused=True) for loss in (supcon, cider)]
    name = f"SupCon's step (as reference) and CIDER's, {VIEWS} views, width 16"
    compare(name, sides[0].step, sides[1].step, target=">= 0.83", pairs=9)
    assert not torch.equal(held[0], start)
    assert all(side.gradient().isfinite().all() for side in sides)

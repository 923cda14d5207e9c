"""Everything about speed that needs a GPU, in one go: a table on the screen and a JSON file.

Run `python tests/benchmarks/gpu.py`; with `--small` it runs on a CPU in about a minute, which shows
that it works and nothing else. Images are noise: time does not depend on what they show.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from gpu_step import (
    DEVICE,
    GPU,
    SMALL,
    Size,
    Step,
    ceilings,
    gradient_error,
    packed,
    training_steps,
    wait,
)
from PIL import Image
from torchvision import transforms

from rwood.config.backbones import ModelConfig
from rwood.config.benchmark import BenchmarkConfig
from rwood.config.load import load_study
from rwood.config.run import RunConfig
from rwood.config.scorers import ScorerConfig
from rwood.config.search import apply
from rwood.data import loaders
from rwood.data.opened import ImageSet
from rwood.evaluation.embed import embed
from rwood.evaluation.scorer import fit
from rwood.method.metrics import ood_metrics
from rwood.model.encoder import build_encoder
from rwood.training.train import train
from rwood.training.worker import LocalWorker

DIGITS = Path(__file__).parents[2] / "studies" / "digits.yaml"


def noise_set(name: str, count: int) -> ImageSet:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    return ImageSet(name, pixels, np.arange(count) % 10, f"{name}-{count}")


def cifar_like() -> BenchmarkConfig:
    digits = load_study(DIGITS).benchmark
    statistics = {"mean": (0.49, 0.48, 0.45), "std": (0.25, 0.24, 0.26)}
    return digits.model_copy(update={"channels": 3, "image_size": 32, "classes": 10, **statistics})


def epochs(size: Size) -> dict[str, float]:
    """Batches made and trained with as in a run, extrapolated to 100 epochs."""
    images, benchmark = noise_set("train", size.images), cifar_like()
    precision, found = "float16" if GPU else "float32", {}
    for compiled in (False, True) if GPU else (False,):
        model = ModelConfig(backbone="resnet18_32x32", width=size.width)
        run = RunConfig(model=model, epochs=1, batch_size=size.batch, compile=compiled)
        step = Step(size, precision)
        if compiled:
            step.encoder.compile()

        def batches(epoch: int, run=run):
            return loaders.training_batches(
                images, run, benchmark, epoch=epoch, rank=0, world_size=1, device=DEVICE
            )

        def one_epoch(epoch: int, train: bool, step=step, batches=batches) -> float:
            start = time.perf_counter()
            for batch in batches(epoch):
                if train:
                    step.images, step.labels = batch.images, batch.labels
                    step()
            wait()
            return time.perf_counter() - start

        name = "compiled" if compiled else "eager"
        one_epoch(0, True)
        whole, made = one_epoch(1, True), one_epoch(2, False)
        found[f"{name}, 100 epochs, s"] = 100 * whole
        found[f"{name}, batches alone, share of an epoch"] = made / whole
    return found


def pil(size: Size) -> dict[str, float]:
    """The authors' two views of an image by PIL, on one core of this host."""
    jitter = transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)
    pipeline = transforms.Compose(
        [
            transforms.RandomResizedCrop(32, scale=(0.2, 1.0)),
            transforms.RandomHorizontalFlip(),
            transforms.RandomApply([jitter], p=0.8),
            transforms.RandomGrayscale(p=0.2),
            transforms.ToTensor(),
        ]
    )
    torch.set_num_threads(1)
    pixels = noise_set("pil", size.pil).images_NHWC
    pictures = [Image.fromarray(image) for image in pixels]
    start = time.process_time()
    for picture in pictures:
        pipeline(picture), pipeline(picture)
    rate = size.pil / (time.process_time() - start)
    return {"images/s a core": rate, "cores": float(os.cpu_count() or 1)}


def evaluation(size: Size) -> dict[str, float]:
    benchmark = cifar_like()
    model = ModelConfig(backbone="resnet18_32x32", width=size.width)
    encoder = build_encoder(model, channels=3, seed=0).to(DEVICE)
    known, scored = noise_set("fit", size.images), noise_set("score", size.scored)
    labels = torch.from_numpy(known.labels_N).to(DEVICE)
    embed(encoder, noise_set("warm", 1024), benchmark, DEVICE)
    found = {}
    wait()
    start = time.perf_counter()
    train, rows = (embed(encoder, part, benchmark, DEVICE) for part in (known, scored))
    wait()
    found["embedding, float32, s"] = time.perf_counter() - start
    for name in ("mahalanobis", "knn"):
        start = time.perf_counter()
        fitted = fit(ScorerConfig(name=name), train, train, labels, 10)  # type: ignore[arg-type]
        scores = fitted.score(rows)
        wait()
        found[f"{name}, fit and score, s"] = time.perf_counter() - start
    start = time.perf_counter()
    ood_metrics(scores[: size.scored // 4], scores[size.scored // 4 :])
    found["metrics, s"] = time.perf_counter() - start
    return found | {"all, s": sum(found.values())}


def between_trials(folder: Path) -> dict[str, float]:
    """From the last report of a run to the first of the next in a process, less one epoch."""
    study, reports = load_study(DIGITS), []
    for seed in range(4):
        run = apply(study.run, {"seed": seed, "epochs": 3, "precision": "auto"})
        worker = LocalWorker(folder / str(seed), DEVICE, reports.append)
        train(run, study.benchmark, worker, data_root=folder)
    times = [report.time for report in reports]
    gaps = [times[i] - times[i - 1] - (times[i + 1] - times[i]) for i in range(3, len(times), 3)]
    return {"idle, s": sorted(gaps)[len(gaps) // 2]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="sizes that a CPU can bear")
    parser.add_argument("--output", type=Path, default=Path("gpu.json"))
    options = parser.parse_args()
    size = SMALL if options.small else Size()
    if not GPU and not options.small:
        parser.error("no GPU here; --small runs on a CPU")
    torch.backends.cudnn.benchmark = True
    name = torch.cuda.get_device_name(DEVICE) if GPU else f"CPU ({platform.machine()})"
    result = {"device": name, "torch": torch.__version__, "size": asdict(size)}
    print(f"{name}, torch {torch.__version__}\n\n| what | measured |\n|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        parts = {
            "ceiling": lambda: ceilings(size),
            "step": lambda: training_steps(size),
            "gradient against float64": lambda: gradient_error(size),
            "training": lambda: epochs(size),
            "PIL": lambda: pil(size),
            "evaluation": lambda: evaluation(size),
            "between trials": lambda: between_trials(Path(folder)),
            "two on one device": lambda: packed(size),
        }
        for part, measure in parts.items():
            try:
                result[part] = measure()
            except Exception as error:  # one part that fails must not lose the others
                result[part] = {}
                print(f"| {part} | failed: {type(error).__name__}: {error} |", flush=True)
            for what, value in result[part].items():
                print(f"| {part}: {what} | {value:.4g} |", flush=True)
            options.output.write_text(json.dumps(result, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()

"""What needs a GPU, in one go and under 8 minutes: is it right, how fast is it; a table and a JSON.

Run `PYTHONPATH=. python tests/benchmarks/gpu.py`; with `--small` it runs on a CPU in about two
minutes, which shows that it works and nothing else. It needs torch, torchvision, numpy, Pillow,
PyYAML and pydantic, and neither Ray nor Optuna nor MLflow.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from gpu_checks import check, compiled_as_eager
from gpu_runs import EPOCHS_A_RUNG, FULL_EPOCHS, NOTES, evaluation, search, training
from gpu_step import DEVICE, GPU, SMALL, Size, ceilings, gradient_error, packed, training_steps
from PIL import Image
from torchvision import transforms

VIEWS_AN_EPOCH, GFLOP_A_VIEW = 100_000, 3.331
BUDGET_S = 420
"""After so long no further part is begun."""
Part = dict[str, float]


def pil(size: Size) -> Part:
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
    pixels = np.random.default_rng(0).integers(0, 256, (size.pil, 32, 32, 3), dtype=np.uint8)
    pictures = [Image.fromarray(image) for image in pixels]
    start = time.process_time()
    for picture in pictures:
        pipeline(picture), pipeline(picture)
    rate = size.pil / (time.process_time() - start)
    return {"images/s a core": rate, "cores": float(os.cpu_count() or 1)}


def goals(found: dict[str, Part]) -> dict[str, dict[str, float | None]]:
    """Name -> what was measured (None: a part of it failed) and what is wanted on an H200."""
    runs = [found[name] for name in ("training, eager", "training, compiled") if found.get(name)]
    epoch = min((run["an epoch, s"] for run in runs), default=None)
    kind = "float16" if GPU else "float32"
    product = found.get("ceilings", {}).get(f"product, {kind}, TFLOP/s")
    searched = found.get("search", {})
    share = length = None
    if epoch and product:
        share = 1e-3 * GFLOP_A_VIEW * VIEWS_AN_EPOCH / epoch / product
    if epoch and searched:
        more = (EPOCHS_A_RUNG - 1) * searched["epochs trained"]
        length = (searched["16 trials, an epoch for eleven, s"] + more * epoch) / 60
    return {
        "100 CIFAR-10 epochs, s": {
            "measured": min((run[f"{FULL_EPOCHS} epochs, s"] for run in runs), default=None),
            "goal": 110,
        },
        "full evaluation, s": {
            "measured": found.get("evaluation", {}).get("full evaluation, s"),
            "goal": 3,
        },
        "16 trials with ASHA in one process, min": {"measured": length, "goal": 10},
        "a training step, share of a plain product's rate": {"measured": share, "goal": 0.38},
    }


def parts(size: Size, folder: Path) -> dict[str, Callable[[], Part]]:
    """What is measured, in order: right before fast, the goals before their explanations."""
    eager = {"training, eager": lambda: training(size, folder / "eager", False)}
    compiled = {
        "compiled and eager": lambda: compiled_as_eager(folder / "checks"),
        "training, compiled": lambda: training(size, folder / "compiled", True),
    }
    return {
        "device and CPU": check,
        "ceilings": lambda: ceilings(size),
        **eager,
        **(compiled if GPU else {}),
        "evaluation": lambda: evaluation(size, folder),
        "search": lambda: search(size, folder / "search", compiled=GPU),
        "step": lambda: training_steps(size),
        "gradient against float64": lambda: gradient_error(size),
        "two on one device": lambda: packed(size),
        "PIL": lambda: pil(size),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="sizes that a CPU can bear")
    parser.add_argument("--output", type=Path, default=Path("gpu.json"))
    options = parser.parse_args()
    if not GPU and not options.small:
        parser.error("no GPU here; --small runs on a CPU")
    if not GPU:
        torch.set_num_threads(1)
    size, started = SMALL if options.small else Size(), time.monotonic()
    name = torch.cuda.get_device_name(DEVICE) if GPU else f"CPU ({platform.machine()})"
    result = {"device": name, "torch": torch.__version__, "small": options.small}
    result |= {"size": asdict(size), "parts": {}, "failed": {}, "notes": NOTES}
    print(f"{name}, torch {torch.__version__}\n\n| what | measured |\n|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for part, measure in parts(size, Path(folder)).items():
            begun = time.monotonic()
            try:
                if GPU and begun - started > BUDGET_S:
                    raise TimeoutError(f"not begun: {BUDGET_S} s are over")
                result["parts"][part] = measure()
            except Exception as error:  # one part that fails must not lose the others
                result["failed"][part] = f"{type(error).__name__}: {error}"
                print(f"| {part} | failed: {result['failed'][part]} |", flush=True)
            for what, value in result["parts"].get(part, {}).items():
                print(f"| {part}: {what} | {value:.4g} |", flush=True)
            print(f"| {part}: in all, s | {time.monotonic() - begun:.3g} |", flush=True)
            result["goals"] = goals(result["parts"])
            options.output.write_text(json.dumps(result, indent=1), encoding="utf-8")
    print("\n| goal, on an H200 | measured | wanted |\n|---|---|---|")
    for goal, row in result["goals"].items():
        measured = "-" if row["measured"] is None else f"{row['measured']:.3g}"
        print(f"| {goal} | {measured} | {row['goal']} |")
    for note in dict.fromkeys(NOTES):
        print(f"\n{note}")
    raise SystemExit(bool(result["failed"]))


if __name__ == "__main__":
    main()

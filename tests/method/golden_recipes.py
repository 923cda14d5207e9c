"""The golden vectors: recipes of inputs, outputs of the authors' code."""

import json
from pathlib import Path

import numpy as np
import torch

GOLDEN = json.loads((Path(__file__).parents[1] / "golden.json").read_text())


def golden_batch(args):
    """Float64 projections that want a gradient, labels, and the generator after both."""
    rng = np.random.default_rng(args["seed"])
    rows = rng.standard_normal((2 * args["B"], args["D"])) * args.get("scale", 1.0)
    match args.get("labels_mode"):
        case "same":
            labels = np.zeros(args["B"], dtype=int)
        case "distinct":
            labels = np.arange(args["B"])
        case _:
            labels = rng.integers(0, args["C"], args["B"])
    both = torch.from_numpy(np.concatenate([labels, labels]))
    return torch.from_numpy(rows).requires_grad_(), both, rng


def golden_features(args):
    """Float32 training rows, labels and queries of a scorer's golden case."""
    rng = np.random.default_rng(args["seed"])
    means = rng.standard_normal((args["C"], args["D"]))
    labels = np.arange(args["N"]) % args["C"]
    rows = (means[labels] + rng.standard_normal((args["N"], args["D"]))).astype(np.float32)
    queries = (rng.standard_normal((args["Q"], args["D"])) * 1.5).astype(np.float32)
    if args.get("unit", True):
        rows, queries = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (rows, queries))
    return torch.from_numpy(rows), torch.from_numpy(labels), torch.from_numpy(queries)

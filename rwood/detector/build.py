"""From a trained encoder to a detector: fit on ID train, set the threshold on ID val."""

import os
from pathlib import Path

import torch

import rwood
from rwood.config.benchmark import BenchmarkConfig
from rwood.config.run import RunConfig
from rwood.config.scorers import ScorerConfig
from rwood.config.study import run_digest
from rwood.data import image_sets
from rwood.detector.metadata import Digests, Metadata, preprocessing_of
from rwood.detector.model import Detector, load_detector, save_detector, threshold_of
from rwood.evaluation.scorer import fit
from rwood.evaluation.validation import ValidationSets, embed_sets
from rwood.model.checkpoint_keys import load_into, load_openood_state
from rwood.model.encoder import encoder_of
from rwood.model.precision import set_up

ACCEPTED = 0.95
"""Share of ID validation images whose score is at most the threshold."""


def build_detector(
    run: RunConfig,
    benchmark: BenchmarkConfig,
    weights: Path,
    folder: Path,
    *,
    scorer: ScorerConfig | None = None,
    data_root: Path,
    device: torch.device,
) -> Detector:
    """Build a detector, write it, and return it as read back.

    Opens the ID train and val sets and no other. The threshold is the least validation score that
    accepts 95 % of the ID validation images.

    Args:
        run: the run that was trained.
        benchmark: its ID set, pixel statistics and sizes.
        weights: the run's `encoder.pt`, or any checkpoint of that network.
        folder: where the detector goes; one that is there is replaced.
        scorer: what is fitted, settled; the run's own by default.
        data_root: where image sets lie.
        device: where to embed.

    Raises:
        DataError: weights or an image set are missing or corrupt.
        SpecError: the scorer cannot be fitted on ID train.
    """
    scorer = scorer or run.scorer
    encoder = encoder_of(run, benchmark)
    load_into(encoder, load_openood_state(weights))
    set_up(device)
    encoder.to(device).eval()  # in the plain layout, as it is when it is read back
    train = image_sets.open_set(benchmark.id.train, benchmark, data_root)
    val = image_sets.open_set(benchmark.id.val, benchmark, data_root)
    sets = ValidationSets(train, val, ood={})
    embedded = embed_sets(encoder, sets, [scorer], benchmark, device)
    learned = fit(scorer, embedded)
    scores_N = learned.score(embedded.val).double().cpu().numpy()
    metadata = Metadata(
        rwood=rwood.__version__,
        benchmark=benchmark.name,
        model=run.model.model_copy(update={"weights": None}),
        preprocessing=preprocessing_of(benchmark),
        scorer=scorer,
        threshold=threshold_of(scores_N, ACCEPTED),
        accepted=ACCEPTED,
        class_names=_class_names(benchmark, data_root),
        digests=Digests(
            training=run_digest(run, benchmark),
            train_set=train.digest,
            val_set=val.digest,
            tensors="",
        ),
    )
    save_detector(metadata, encoder, learned, scores_N, folder)
    return load_detector(folder, device=device, trust=True)


def _class_names(benchmark: BenchmarkConfig, data_root: Path) -> tuple[str, ...]:
    """Names of the folders that hold one class each, if the files of ID train lie in such.

    Bytes of a name that are not UTF-8 are replaced: JSON has none.
    """
    if image_sets.has_files(benchmark.id.train):
        files = image_sets.files_of(benchmark.id.train, benchmark, data_root)
        parts = [path.split("/")[:-1] for path in files.paths]
        for depth in range(min(map(len, parts))):
            pairs = {(int(n), row[depth]) for n, row in zip(files.labels_N, parts, strict=True)}
            if len(pairs) == benchmark.classes == len({name for _, name in pairs}):
                return tuple(os.fsencode(n).decode(errors="replace") for _, n in sorted(pairs))
    return tuple(str(label) for label in range(benchmark.classes))

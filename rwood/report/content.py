"""What a report says, section by section; it draws the figures it shows."""

import shlex
from pathlib import Path

import yaml

from rwood.report import figures_scores, figures_search
from rwood.report.advice import advice
from rwood.report.benchmark_section import benchmark_blocks
from rwood.report.cautions import cautions
from rwood.report.document import Block, Code, Document, Folded, Picture, Section, Text, texts
from rwood.report.figures_overview import draw_overview
from rwood.report.figures_parallel import draw_parallel
from rwood.report.figures_scores import GEOMETRY, geometry_curves
from rwood.report.finals import finals_blocks, search_sentences
from rwood.report.finding import finding
from rwood.report.front import front_panels, front_table
from rwood.report.hyperparameters import hyperparameters
from rwood.report.inputs import ReportInputs
from rwood.report.interactive import plot_panels, plot_parallel
from rwood.report.panels import history_panel, outside_sentence, slice_panels, valued
from rwood.report.ranking import ranking_table, rerun_settings
from rwood.report.trials import (
    cost_table,
    failures,
    knob_table,
    saving,
    trial_table,
    versions_table,
)
from rwood.text import count_of


def build_document(inputs: ReportInputs, figures: Path) -> Document:
    """The report of a study; sections about what was not run are left out."""
    parts: dict[str, list[Block]] = {
        "Cautions": texts(*cautions(inputs)),
        "Settings": _chosen(inputs),
        "Finals": finals_blocks(inputs),
        "Benchmark": benchmark_blocks(inputs, figures),
        "Validation": [*filter(None, [ranking_table(rerun_settings(inputs))])],
        "Search": _search(inputs, figures),
        "Scores": _scores(inputs, figures),
        "Embedding": _embedding(inputs, figures),
        "Geometry": _geometry(inputs, figures),
        "Cost": [t for t in (cost_table(inputs.study), versions_table(inputs.study)) if t.rows],
        "Reproduce": _reproduce(inputs),
    }
    return Document(
        title=f"Study {inputs.study.name}",
        question=inputs.config.question,
        finding=finding(inputs),
        advice=advice(inputs),
        overview=_overview(inputs, figures),
        sections=tuple(Section(title, tuple(blocks)) for title, blocks in parts.items() if blocks),
    )


def _overview(inputs: ReportInputs, figures: Path) -> tuple[Picture, ...]:
    """Search and proof side by side; nothing until both are there."""
    if not inputs.base_runs or not valued(inputs, "complete"):
        return ()
    several = len(inputs.runs) > 1
    caption = (
        "Left: what the search saw, validation sets alone. Right: champion and base run on the "
        "test sets, which no trial saw: "
        f"{'mean, one population std, a dot a seed' if several else 'one seed'}."
        f"{outside_sentence(inputs)}"
    )
    path = draw_overview(inputs, figures / "overview.png")
    return (Picture(path, "Search and benchmark", caption),)


def _chosen(inputs: ReportInputs) -> list[Block]:
    if not hyperparameters(inputs.config) or inputs.study.champion is None:
        return []
    return [knob_table(inputs)]


def _search(inputs: ReportInputs, figures: Path) -> list[Block]:
    study, config = inputs.study, inputs.config
    if config.search is None or not study.trials:
        return []
    spared = saving(study, config)
    trials, ran = count_of(len(study.trials), "trial"), count_of(spared.epochs_run, "epoch")
    blocks: list[Block] = [
        Text(
            f"{trials}, {spared.pruned} of them pruned: "
            f"{ran} run where a search without early stopping would have run "
            f"{spared.epochs_full:,} ({spared.share:.0f} % spared; failed and running trials not "
            "counted)."
            if spared.pruned
            else f"{trials}, none pruned."
        )
    ]
    blocks += texts(*failures(study), *search_sentences(inputs))
    if valued(inputs, "complete", "pruned"):
        blocks += _search_pictures(inputs, figures)
    if len(study.objectives) > 1 and valued(inputs, "complete"):
        caption = (
            "Complete trials by every two objectives, means over seeds with a bar of one std where "
            "a trial has several. No trial is better than one of the front in all objectives; "
            "trials far from it lie outside the picture."
        )
        panels = front_panels(inputs)
        path = figures_search.draw_panels(panels, figures / "front.png")
        front = Picture(path, "Pareto front", caption, plot_panels(panels))
        blocks += [front, front_table(inputs)]
    return [*blocks, Folded("All trials", trial_table(inputs))]


def _search_pictures(inputs: ReportInputs, figures: Path) -> list[Block]:
    history, slices = [history_panel(inputs)], slice_panels(inputs)
    first = "First objective" if len(inputs.study.objectives) > 1 else "Objective"
    blocks: list[Block] = [
        Picture(
            figures_search.draw_panels(history, figures / "history.png"),
            "Search history",
            f"{first} of every trial. The star is the champion, the line the best "
            "complete trial so far; a trial pruned stands at its last value, from fewer "
            f"epochs.{outside_sentence(inputs)}",
            plot_panels(history),
        ),
        Picture(
            figures_search.draw_curves(inputs, figures / "curves.png"),
            "Learning curves",
            "The objective after every validated epoch; triangles: where early stopping cut.",
        ),
        Picture(
            draw_parallel(inputs, figures / "parallel.png"),
            "Parallel coordinates",
            "Every trial as a line through its settings to its objective. In the interactive form, "
            "drag along an axis to keep the trials within.",
            plot_parallel(inputs),
        ),
    ]
    if inputs.importance:
        caption = (
            f"{inputs.importance_note} Few trials make it a rough guide. optuna-dashboard shows "
            "other shares: PED-ANOVA, of complete trials alone, asks which settings tell the best "
            "trials from the rest."
        )
        path = figures_search.draw_importance(inputs, figures / "importance.png")
        blocks.append(Picture(path, "Importance of the settings", caption))
    else:
        blocks += texts(inputs.importance_note)
    caption = "Each setting against the objective. Dotted: the base run's value."
    path = figures_search.draw_panels(slices, figures / "slices.png")
    return [*blocks, Picture(path, "Slices", caption, plot_panels(slices))]


def _scores(inputs: ReportInputs, figures: Path) -> list[Block]:
    samples = inputs.scores.get(inputs.label)
    if samples is None:
        return []
    seed = f" Seed {inputs.runs[0].seed}." if inputs.runs else ""
    mark = (
        " Right of the dashed line an image is called OOD." if samples.threshold is not None else ""
    )
    return [
        Picture(
            figures_scores.draw_histograms(samples, figures / "scores.png"),
            "Score histograms",
            f"Scores of ID and OOD test images.{mark} The outermost bars hold what lies "
            f"beyond.{seed}",
        ),
        Picture(
            figures_scores.draw_roc(samples, figures / "roc.png"),
            "ROC",
            "ROC with OOD as positive. FPR@95 is read where a curve crosses the dotted line, where "
            f"95 % of the OOD images are caught.{seed}",
        ),
    ]


def _embedding(inputs: ReportInputs, figures: Path) -> list[Block]:
    if inputs.embedding is None:
        return []
    caption = (
        f"Embeddings of test images by {inputs.embedding.method}; numbers are ID classes. "
        "Distances between far-apart groups mean little."
    )
    path = figures_scores.draw_embedding(inputs.embedding, figures / "embedding.png")
    return [Picture(path, "Embedding", caption)]


def _geometry(inputs: ReportInputs, figures: Path) -> list[Block]:
    if not any(geometry_curves(inputs.runs, metric) for metric in GEOMETRY):
        return []
    caption = (
        "Geometry of the embedding after every epoch: small class radius, wide dispersion and "
        "little ID-OOD overlap are what the loss is for."
    )
    if len(inputs.runs) > 1:
        caption += " Mean over seeds; band: least to most."
    path = figures_scores.draw_geometry(inputs, figures / "geometry.png")
    return [Picture(path, "Geometry", caption)]


def _reproduce(inputs: ReportInputs) -> list[Block]:
    name, params = inputs.study.name, inputs.study.champion_params
    words = [f"rwood run {name}.yaml"]
    if params:
        sets = [f"--set {shlex.quote(f'{key}={value}')}" for key, value in params.items()]
        train = " \\\n    ".join([f"rwood train {name}.yaml", *sets])
        words += ["", "# the champion alone", train]
    settings = yaml.safe_dump(
        inputs.config.model_dump(mode="json"), sort_keys=False, allow_unicode=True
    )
    return [
        Text(f"Save the settings below as {name}.yaml; the versions are those above."),
        Code("\n".join(words), "console"),
        Folded("All settings of the study", Code(settings, "yaml")),
    ]

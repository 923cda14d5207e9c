"""Results in, tables, figures and a page out. Reads results only; opens no data, no device."""

from rwood.report.inputs import (
    EmbeddingPicture,
    ReportInputs,
    ScoreSamples,
    load_scores,
    project_embeddings,
)
from rwood.report.page import render_report

__all__ = [
    "EmbeddingPicture",
    "ReportInputs",
    "ScoreSamples",
    "load_scores",
    "project_embeddings",
    "render_report",
]

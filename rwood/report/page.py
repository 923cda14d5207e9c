"""Write a study's report: `report.md`, `report.html`, the benchmark's CSV files, the figures."""

from pathlib import Path

from rwood.report.inputs import ReportInputs
from rwood.report.leaderboard import leaderboard_files
from rwood.report.tables import benchmark_files
from rwood.results import write_atomically


def render_report(inputs: ReportInputs, folder: Path) -> list[Path]:
    """Write the report into a folder, over an earlier one, and return the files written.

    Args:
        inputs: what to report.
        folder: gets `report.md`, `report.html`, `benchmark*.csv`, `figures/*.png`; where OpenOOD
            has a table of the benchmark, `leaderboard_*.csv` too.
    """
    from rwood.report.content import build_document
    from rwood.report.html_page import to_html

    figures = folder / "figures"
    document = build_document(inputs, figures)
    texts = benchmark_files(inputs) | leaderboard_files(inputs)
    texts |= {"report.md": document.markdown(folder), "report.html": to_html(document)}
    for name, text in texts.items():
        write_atomically(folder / name, text)
    return [*(folder / name for name in texts), *(picture.path for picture in document.pictures)]

"""README's pictures: `python -m tests.readme_pictures [RESULTS]`.

Made of the committed records; with a results folder that holds `mlflow.db`, of MLflow's own page on
its study `digits` too (needs chromium).
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from rwood.report.figures import BLUE, GREY, INK, VERMILLION, canvas, write
from rwood.report.figures_overview import draw_overview
from rwood.report.inputs import ReportInputs
from tests.an_evidence_page import SEARCHED, config_of, record_of
from tests.mlflow_server import CHROMIUM, mlflow_server

FOLDER = Path(__file__).parents[1] / "studies" / "pictures"
PAPER = (13, 17, 23)
"""GitHub's dark page."""
_TURN = np.array([[-0.574, 1.43, 0.144], [0.426, 0.43, 0.144], [0.426, 1.43, -0.856]])
"""hue-rotate(180deg), W3C Filter Effects."""
STAGES = (
    ("search", "many settings,\none seed each;\nweak ones\nstop early", GREY),
    ("race", "the best three\non 2 fresh\nseeds", GREY),
    ("gate", "winner and base,\n5 fresh seeds:\nbetter? and no\nfamily worse?", GREY),
    ("reruns", "champion\nand base,\nfurther seeds", GREY),
)
LANES = (
    ("ID train and val, validation OOD sets", 0, 3, BLUE),
    ("near and far test OOD sets", 3, 4, VERMILLION),
)


def draw_stages(path: Path) -> Path:
    """Which stage sees which data."""
    figure, axes = canvas(3.2)
    axis = axes[0, 0]
    axis.set_xlim(0, 4)
    axis.set_ylim(0, 2.5)
    axis.axis("off")
    for place, (name, words, colour) in enumerate(STAGES):
        _box(axis, place + 0.06, 0.85, 0.84, 1.55, colour, 0.12)
        axis.text(place + 0.48, 2.18, name, fontsize=15, fontweight="bold", ha="center",
                  va="center", color=INK)  # fmt: skip
        axis.text(place + 0.48, 1.44, words, fontsize=11.5, ha="center", va="center", color=INK,
                  linespacing=1.35)  # fmt: skip
        if place:
            axis.annotate("", (place + 0.06, 1.6), (place - 0.1, 1.6),
                          arrowprops={"arrowstyle": "-|>", "color": INK})  # fmt: skip
    for words, first, last, colour in LANES:
        _box(axis, first + 0.06, 0.1, last - first - 0.16, 0.52, colour, 0.25)
        axis.text((first + last) / 2 - 0.02, 0.36, words.replace("test OOD", "\ntest OOD"),
                  fontsize=12, ha="center", va="center", color=INK)  # fmt: skip
    return write(figure, path)


def _box(
    axis: Any, x: float, y: float, width: float, height: float, colour: str, alpha: float
) -> None:
    from matplotlib.colors import to_rgba
    from matplotlib.patches import FancyBboxPatch

    look = {"boxstyle": "round,pad=0,rounding_size=0.06", "linewidth": 1.4}
    face = to_rgba(colour, alpha)
    axis.add_patch(FancyBboxPatch((x, y), width, height, facecolor=face, edgecolor=colour, **look))


def in_the_dark(path: Path) -> Path:
    """The figure as the report's style sheet shows it in the dark: light turned round, hue kept."""
    with Image.open(path) as image:
        light = np.asarray(image.convert("RGB"), dtype=np.float64) / 255
    turned = np.clip((1 - light) @ _TURN.T, 0, 1)
    screened = 1 - (1 - turned) * (1 - np.array(PAPER) / 255)
    dark = Image.fromarray((255 * screened).round().astype(np.uint8))
    made = path.with_name(f"{path.stem}-dark.png")
    dark.save(made)
    return made


def shrink(path: Path, colours: int = 96) -> None:
    """Few colours make small files."""
    with Image.open(path) as image:
        small = image.convert("RGB").quantize(colours, dither=Image.Dither.NONE)
    small.save(path, optimize=True)


def photograph(results: Path, path: Path) -> None:
    """MLflow's page of the study's experiment, its settings side by side."""
    with mlflow_server(f"sqlite:///{(results / 'mlflow.db').resolve()}", results) as address:
        profile = tempfile.mkdtemp()
        view = f"{address}/#/experiments/1/runs?viewStateShareKey=trials&compareRunsMode=CHART"
        subprocess.run(
            [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
             f"--user-data-dir={profile}", "--window-size=1900,1150", "--hide-scrollbars",
             "--virtual-time-budget=90000", f"--screenshot={path}", view],
            check=True, capture_output=True,
        )  # fmt: skip
        shutil.rmtree(profile)
    with Image.open(path) as image:
        image.crop((198, 0, 1400, 755)).save(path)  # without its menu and its assistant


def draw(folder: Path) -> list[Path]:
    """All but MLflow's, each in light and dark."""
    inputs = ReportInputs(record_of(SEARCHED), config_of(SEARCHED), {}, {})
    made = [
        draw_overview(inputs, folder / "overview.png"),
        draw_overview(inputs, folder / "overview-narrow.png", stacked=True),
        draw_stages(folder / "stages.png"),
    ]
    return [*made, *map(in_the_dark, made)]


def main() -> None:
    """Write them into the repository."""
    made = draw(FOLDER)
    if len(sys.argv) > 1:
        photograph(Path(sys.argv[1]), FOLDER / "mlflow.png")
        made.append(FOLDER / "mlflow.png")
    for path in made:
        shrink(path)


if __name__ == "__main__":
    main()

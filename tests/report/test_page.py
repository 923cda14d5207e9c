"""The report as people get it: complete, self-contained, safe, and honest about what is missing."""

import csv
import json
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from a_study import make_config, make_run, make_study, published_inputs

from rwood.config.load import load_study
from rwood.report.content import build_document
from rwood.report.document import Document, Section
from rwood.report.html_page import to_html
from rwood.report.inputs import ReportInputs
from rwood.report.leaderboard import leaderboard_files
from rwood.report.page import render_report
from rwood.report.table import Table
from tests.mlflow_server import CHROMIUM

FIGURES = [
    "benchmark", "curves", "embedding", "geometry", "history", "importance", "overview", "parallel",
    "roc", "scores", "slices",
]  # fmt: skip


class Loads(HTMLParser):
    """Everything that a browser would fetch, and the tags of the page."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.tags: list[str] = []
        self.plots: list[str] = []
        self._in_json = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        names = ("src", "href", "srcset", "data", "poster", "action")
        self.fetched += [value or "" for name, value in attrs if name in names]
        self._in_json = tag == "script" and ("type", "application/json") in attrs

    def handle_data(self, data: str) -> None:
        if self._in_json:
            self.plots.append(data)


pytestmark = pytest.mark.usefixtures("unpainted")


@pytest.fixture(scope="module")
def report(inputs: ReportInputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    written = render_report(inputs, folder)
    assert all(path.stat().st_size > 0 for path in written)
    on_disk = sorted(path for path in folder.rglob("*") if path.is_file())
    assert sorted(written) == on_disk, "every file written is returned"
    return folder


def page_of(folder: Path) -> tuple[str, Loads]:
    text = (folder / "report.html").read_text(encoding="utf-8")
    loads = Loads()
    loads.feed(text)
    return text, loads


def test_files(report: Path) -> None:
    assert sorted(path.stem for path in (report / "figures").iterdir()) == FIGURES
    assert (report / "benchmark.csv").read_text(encoding="utf-8").startswith(",FPR@95,AUROC,")


def test_markdown_shows_every_figure_and_section(report: Path) -> None:
    text = (report / "report.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"\]\(figures/(\w+)\.png\)", text)) == FIGURES
    assert re.findall(r"^## (\w+)$", text, re.MULTILINE) == [
        "Settings", "Benchmark", "Search", "Scores", "Embedding", "Geometry", "Cost", "Reproduce",
    ]  # fmt: skip
    assert "37 % spared" in text
    assert "two-sided paired t-test" in text
    assert text.index("So do this: ") < text.index("](figures/overview.png)") < text.index("## ")
    command = re.search(r"# the champion alone\n(.*?)```", text, re.DOTALL)
    assert command is not None
    assert max(map(len, command.group(1).splitlines())) < 80, "no line is cut on a page"


def test_a_table_in_html_escapes_and_parts_notes() -> None:
    table = Table(
        ("set", "figure", "word"),
        (("a|b", "1.00 ± 0.10\n2.00; −1.00", "<b>"), ("mean", "3.00", "x & y")),
        caption="What <this> is.",
        strong=frozenset({"mean"}),
    )
    section = Section("Numbers", (table,))
    text = to_html(Document("T", "Q", "F", (section,))).partition("<body>")[2]
    assert "<td>1.00 ± 0.10<small>2.00; −1.00</small></td>" in text
    assert '<td class="text">&lt;b&gt;</td>' in text
    assert '<tr class="strong"><th scope="row">mean</th>' in text
    assert "<b>" not in text
    assert "<this>" not in text


def test_html_fetches_nothing(report: Path) -> None:
    text, loads = page_of(report)
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in loads.fetched)
    assert len([link for link in loads.fetched if link.startswith("data:")]) == len(FIGURES)
    assert "link" not in loads.tags
    assert "default-src 'none'" in text
    assert text.count("Plotly.newPlot(target") == 1
    assert not re.search(r"@import|url\(", text.split("</style>")[0])


def test_plotly_is_inlined_once(report: Path) -> None:
    from plotly.offline import get_plotlyjs

    text, loads = page_of(report)
    assert text.count(get_plotlyjs()[:200]) == 1
    plots = [json.loads(plot) for plot in loads.plots]
    assert [plot["data"][-1]["type"] for plot in plots] == ["scatter", "parcoords", "scatter"]


def test_parallel_plot_holds_every_trial_with_a_value(report: Path, inputs: ReportInputs) -> None:
    plot = json.loads(page_of(report)[1].plots[1])
    dimensions = {d["label"]: d for d in plot["data"][0]["dimensions"]}
    assert list(dimensions) == [
        "temperature, log", "within_scale", "within_shift", "between_scale", "between_shift",
        "epochs run", "AUROC (%)",
    ]  # fmt: skip
    assert sorted(dimensions["epochs run"]["values"]) == sorted([20] * 6 + [2, 6, 2, 6, 2])
    assert dimensions["temperature, log"]["ticktext"][0] == "0.02"


def test_links_lead_to_sections(report: Path) -> None:
    text, loads = page_of(report)
    anchors = [link[1:] for link in loads.fetched if link.startswith("#")]
    assert anchors
    assert all(f'<section id="{anchor}">' in text for anchor in anchors)


def test_hostile_text_is_escaped(inputs: ReportInputs, tmp_path: Path) -> None:
    evil = "</script><script>alert(1)</script> | <img src=x onerror=alert(2)> `x`"
    trials = tuple(
        t.model_copy(update={"error": evil}) if t.state == "failed" else t
        for t in inputs.study.trials
    )
    study = inputs.study.model_copy(update={"trials": trials, "versions": {evil: evil}})
    config = inputs.config.model_copy(update={"question": evil})
    render_report(replace(inputs, config=config, study=study), tmp_path)
    text, loads = page_of(tmp_path)
    assert "<script>alert" not in text
    assert "<img src=x" not in text
    assert loads.tags.count("img") == len(FIGURES)
    markdown = (tmp_path / "report.md").read_text(encoding="utf-8").split("```")[0]
    assert "<script>" not in markdown
    assert "<img" not in markdown


@pytest.mark.skipif(not CHROMIUM, reason="no chromium on this machine")
def test_a_long_name_makes_the_page_no_wider_than_a_narrow_window(tmp_path: Path) -> None:
    page = to_html(Document("Study " + "long-name" * 12, "?", f"/{'folder' * 30}/x.png", ()))
    script = "<script>document.title = document.body.scrollWidth <= innerWidth</script></body>"
    (tmp_path / "page.html").write_text(page.replace("</body>", script), encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=500,900"]
    command = [CHROMIUM, *options, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    shown = subprocess.run(
        [*command, (tmp_path / "page.html").as_uri()], capture_output=True, text=True, timeout=120
    )
    assert "<title>true</title>" in shown.stdout


def test_without_a_search(inputs: ReportInputs, tmp_path: Path) -> None:
    config = make_config(search=None)
    runs = tuple(inputs.study.of("base"))
    study = make_study(config, objective=None, trials=(), champion=None, champion_params={},
                       runs=runs)  # fmt: skip
    bare = ReportInputs(study=study, config=config, importance={}, scores={})
    render_report(bare, tmp_path)
    text, loads = page_of(tmp_path)
    assert sorted(p.stem for p in (tmp_path / "figures").iterdir()) == ["benchmark", "geometry"]
    assert "plotly" not in text.lower()
    assert 'id="search"' not in text
    assert 'id="settings"' not in text
    assert "champion" not in (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "script" not in loads.tags


def test_single_seed(inputs: ReportInputs, tmp_path: Path) -> None:
    runs = (make_run("champion", 1, 1.0), make_run("base", 1, 0.0))
    study = inputs.study.model_copy(update={"runs": runs})
    render_report(replace(inputs, study=study), tmp_path)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "one seed, whose uncertainty is unknown" in text
    assert "too few for a test" in text
    assert "| **nearood** | **34.00** | **91.50** |" in text


def test_before_the_benchmark_and_before_anything(inputs: ReportInputs, tmp_path: Path) -> None:
    study = inputs.study.model_copy(update={"runs": ()})
    early = ReportInputs(study=study, config=inputs.config, importance={}, scores={})
    render_report(early, tmp_path / "searched")
    assert not (tmp_path / "searched" / "benchmark.csv").exists()
    assert "Benchmark" not in page_of(tmp_path / "searched")[1].fetched
    empty = make_study(inputs.config, trials=(), champion=None, champion_params={}, runs=(),
                       wall_seconds={}, versions={})  # fmt: skip
    render_report(replace(early, study=empty), tmp_path / "empty")
    text = (tmp_path / "empty" / "report.md").read_text(encoding="utf-8")
    assert "**Nothing has been run yet.**" in text
    assert re.findall(r"^## (\w+)$", text, re.MULTILINE) == ["Reproduce"]


def test_until_a_trial_ends_there_are_no_search_figures(
    inputs: ReportInputs, tmp_path: Path
) -> None:
    stopped = inputs.study.trials[3]
    failed = (
        inputs.study.trials[7],
        stopped.model_copy(update={"state": "failed", "number": 8, "error": "a worker died"}),
        stopped.model_copy(update={"state": "running", "number": 9}),
    )
    study = make_study(inputs.config, trials=failed, champion=None, champion_params={}, runs=())
    render_report(ReportInputs(study, inputs.config, {}, {}), tmp_path)
    assert not (tmp_path / "figures").exists()
    assert "Trial 7 failed" in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_published_figures_of_cifar10(inputs: ReportInputs, tmp_path: Path) -> None:
    render_report(published_inputs(inputs), tmp_path)
    markdown = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "| cifar100 | 29.00 ± 0.00 (37.68 ± 0.97; −8.68) |" in markdown
    assert markdown.count("37.68 ± 0.97") == 2, "beside the champion and beside the base run"
    text, _ = page_of(tmp_path)
    assert "29.00 ± 0.00<small>37.68 ± 0.97; −8.68</small>" in text
    assert "| cifar100 | −8.68 | better by 8.9 std |" in markdown
    assert "Of 16 published figures (FPR@95 and AUROC), the champion is within one" in markdown
    rows = list(csv.DictReader((tmp_path / "leaderboard_ood.csv").open(encoding="utf-8")))
    assert [row["Training"] for row in rows] == ["ReweightOOD", "ReweightOOD"]
    assert rows[0]["Postprocessor"] == "MDS"
    assert rows[0]["ID_Accuracy"] == "/"
    assert rows[1]["Additional_Description"] == "20 epochs; base over 3 seeds; unit-length features"


def test_one_seed_has_no_std_in_the_overviews_caption(inputs: ReportInputs, tmp_path: Path) -> None:
    one = tuple(run for run in inputs.study.runs if run.seed == 1)
    study = inputs.study.model_copy(update={"runs": one})
    (overview,) = build_document(replace(inputs, study=study), tmp_path).overview
    assert overview.caption.endswith("which no trial saw: one seed.")


@pytest.mark.parametrize(("width", "arch"), [(64, "ResNet18"), (8, "ResNet18, width 8")])
def test_the_leaderboard_calls_no_narrow_network_a_resnet18(
    inputs: ReportInputs, width: int, arch: str
) -> None:
    told = published_inputs(inputs)
    model = told.config.run.model.model_copy(update={"backbone": "resnet18_32x32", "width": width})
    run = told.config.run.model_copy(update={"model": model})
    told = replace(told, config=told.config.model_copy(update={"run": run}))
    rows = csv.DictReader(leaderboard_files(told)["leaderboard_ood.csv"].splitlines())
    assert {row["Arch"] for row in rows} == {arch}


def test_settings_in_the_report_are_the_study(report: Path, inputs: ReportInputs) -> None:
    text = (report / "report.md").read_text(encoding="utf-8")
    settings = re.search(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert settings is not None
    (report.parent / "again.yaml").write_text(settings.group(1), encoding="utf-8")
    assert load_study(report.parent / "again.yaml") == inputs.config
    assert yaml.safe_load(settings.group(1))["name"] == "digits"
    temperature = inputs.study.champion_params["loss.temperature"]
    assert f"--set loss.temperature={temperature}" in text


def test_rendering_again_replaces(inputs: ReportInputs, tmp_path: Path) -> None:
    for _ in range(2):
        render_report(replace(inputs, embedding=None, scores={}), tmp_path)
    assert not list(tmp_path.glob(".*"))


def test_importing_the_room_is_light() -> None:
    heavy = ("matplotlib", "plotly", "sklearn", "scipy", "numpy", "pandas", "torch")
    code = f"import sys, rwood.report; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

"""MLflow's own pages on a finished study, in a real browser."""

import subprocess
from collections.abc import Callable, Iterator

import pytest

from rwood.tracked.views import experiment_tags
from rwood.tracking.client import connect, local_uri
from tests.conftest import with_store
from tests.mlflow_server import CHROMIUM, mlflow_server
from tests.report.a_study import make_config, make_study
from tests.test_tracking import send, whole_study

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no chromium on this machine")  # fmt: skip
Page = Callable[..., str]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, empty_store: bytes) -> Iterator[tuple[str, str]]:
    """A store with a whole study, and the address of MLflow's UI on it."""
    folder = with_store(tmp_path_factory.mktemp("pages"), empty_store)
    uri, config = local_uri(folder), make_config(name="toy")
    send(uri, whole_study(config, make_study(config)), tags=experiment_tags(config))
    with mlflow_server(uri, folder) as address:
        yield uri, address


@pytest.fixture(scope="module")
def page(site: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Page:
    """Opens a page of the UI until all words are on it; the page as it then stands.

    A busy machine draws a page late or, now and then, not at all: each try is a new browser.
    """

    def opened(route: str, *words: str) -> str:
        text = ""
        for budget in (15_000, 40_000, 90_000, 90_000):
            profile = tmp_path_factory.mktemp("chromium")
            done = subprocess.run(
                [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
                 "--disable-background-networking", f"--user-data-dir={profile}",
                 "--window-size=1600,1400", f"--virtual-time-budget={budget}", "--dump-dom",
                 f"{site[1]}/#/{route}"],
                capture_output=True, text=True, timeout=180,
            )  # fmt: skip
            text = done.stdout
            if all(word in text for word in words):
                return text
        missing = [word for word in words if word not in text]
        pytest.fail(f"not on the page: {missing}; it ends in {text[-500:]!r}")

    return opened


@pytest.fixture(scope="module")
def ids(site: tuple[str, str]) -> dict[str, str]:
    client = connect(site[0])
    experiment = client.get_experiment_by_name("toy").experiment_id
    runs = client.search_runs([experiment])
    return {"": experiment} | {run.info.run_name: run.info.run_id for run in runs}


def test_runs_table(page: Page, ids: dict[str, str]) -> None:
    page(f"experiments/{ids['']}/runs", ">search<", ">benchmark<", "<strong>22</strong>",
         "Which temperature and margins")  # fmt: skip


def test_view_of_the_trials(page: Page, ids: dict[str, str]) -> None:
    view = f"experiments/{ids['']}/runs?viewStateShareKey=trials"
    best, worst = ids["trial-0002"], ids["trial-0007"]
    text = page(view, "Trials: settings, objective, curves", "<strong>12</strong>",
                "loss.between_shift", best, worst)  # fmt: skip
    assert text.index(best) < text.index(worst), "not in the order of the objective"
    page(f"{view}&compareRunsMode=CHART", "Settings against the objective", "Epoch by epoch",
         "Parallel Coordinates", ">val/auroc<", ">train/loss<")  # fmt: skip


def test_view_of_the_reruns(page: Page, ids: dict[str, str]) -> None:
    view = f"experiments/{ids['']}/runs?viewStateShareKey=reruns"
    page(view, "Reruns: near and far OOD", "<strong>6</strong>", "near/auroc", "far/fpr95",
         "base-seed1", "champion-seed3")  # fmt: skip
    page(f"{view}&compareRunsMode=CHART", "Means over near and far sets (%)", "Every set (%)",
         ">near/auroc<")  # fmt: skip


def test_view_of_the_settings(page: Page, ids: dict[str, str]) -> None:
    view = f"experiments/{ids['']}/runs?viewStateShareKey=settings"
    page(view, "Settings: mean and std over seeds", "<strong>2</strong>", "far/auroc/std",
         "champion-trial-0002", ">base<", "far/china/fpr95")  # fmt: skip


def test_the_answer_is_in_the_experiments_first_line(page: Page, ids: dict[str, str]) -> None:
    page(f"experiments/{ids['']}/runs", "Near AUROC 92.00 ± 0.41 against 91.00 ± 0.41",
         "<th>FPR@95 ↓ champion</th>", "digit9")  # fmt: skip


def test_a_run_says_what_it_is_and_where_it_belongs(page: Page, ids: dict[str, str]) -> None:
    newest, tenth = ids["trial-0011"], ids["trial-0002"]  # the page lists ten, the last begun first
    text = page(f"experiments/{ids['']}/runs/{ids['search']}", "Champion:", "Child runs",
                newest, tenth, "Load more")  # fmt: skip
    assert text.index(newest) < text.index(tenth)
    page(f"experiments/{ids['']}/runs/{ids['champion-seed1']}", ids["benchmark"], "near/auroc",
         "rwood.champion_run_id")  # fmt: skip

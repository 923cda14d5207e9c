"""One study and the inputs of its report, built once."""

import pytest
from a_study import SPACE, make_config, make_study, write_embeddings, write_scores

from rwood.config.study import StudyConfig
from rwood.report.inputs import ReportInputs, load_scores, project_embeddings


@pytest.fixture(scope="session")
def config() -> StudyConfig:
    return make_config()


@pytest.fixture(scope="session")
def inputs(config: StudyConfig, tmp_path_factory: pytest.TempPathFactory) -> ReportInputs:
    folder = tmp_path_factory.mktemp("arrays")
    return ReportInputs(
        study=make_study(config),
        config=config,
        importance=dict(zip(SPACE, (0.52, 0.08, 0.05, 0.24, 0.11), strict=True)),
        scores={"champion": load_scores(write_scores(folder / "scores.npz"))},
        embedding=project_embeddings(write_embeddings(folder / "embeddings.npz")),
    )

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from a_study import write_embeddings, write_scores

from rwood.errors import StudyError
from rwood.report.inputs import ReportInputs, load_scores, project_embeddings


def test_scores_are_read_by_part(tmp_path: Path) -> None:
    samples = load_scores(write_scores(tmp_path / "scores.npz"))
    assert list(samples.near) == ["digit8", "digit9"]
    assert list(samples.far) == ["china", "permuted"]
    assert samples.id.shape == (260,)


def test_threshold_accepts_at_least_95_percent_of_validation(tmp_path: Path) -> None:
    val = np.random.default_rng(0).permutation(np.arange(1, 31.0))
    np.savez(tmp_path / "s.npz", **{"id/test": np.ones(3), "id/val": val, "near/a": np.ones(2)})
    samples = load_scores(tmp_path / "s.npz")
    # 28 of 30 would be 93.3 %; 29 of 30 is the least share that is 95 % or more.
    assert samples.threshold == 29.0


def test_without_validation_scores_there_is_no_threshold(tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", **{"id/test": np.ones(3), "near/a": np.ones(2)})
    assert load_scores(tmp_path / "s.npz").threshold is None


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b"plain text"])
def test_broken_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "scores.npz"
    path.write_bytes(content)
    with pytest.raises(StudyError, match=r"scores\.npz: cannot be read as arrays"):
        load_scores(path)


def test_missing_file_and_missing_array(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="cannot be read"):
        load_scores(tmp_path / "none.npz")
    np.savez(tmp_path / "s.npz", **{"near/a": np.ones(2)})
    with pytest.raises(StudyError, match="has no array id/test"):
        project_embeddings(tmp_path / "s.npz")


def test_picture_is_seeded_and_names_every_point(tmp_path: Path) -> None:
    path = write_embeddings(tmp_path / "e.npz", per_set=20)
    first, second = project_embeddings(path), project_embeddings(path)
    assert first.method == "t-SNE"
    assert first.points.shape == (160, 2)
    assert np.array_equal(first.points, second.points)
    assert first.groups[79:81] == ("ID", "near: digit8")
    assert set(first.groups) == {
        "ID", "near: digit8", "near: digit9", "far: china", "far: permuted",
    }  # fmt: skip
    assert first.classes[:8] == (0, 1, 2, 3, 4, 5, 6, 0)
    assert set(first.classes[80:]) == {-1}


def test_few_points_get_principal_components(tmp_path: Path) -> None:
    picture = project_embeddings(write_embeddings(tmp_path / "e.npz", per_set=5))
    assert picture.method == "PCA"
    assert picture.points.shape == (40, 2)


def test_the_base_run_does_not_stand_beside_itself(inputs: ReportInputs) -> None:
    assert list(inputs.groups) == ["champion", "base run"]
    own = inputs.study.of("champion")
    both = (*own, *(run.model_copy(update={"label": "base"}) for run in own))
    same = replace(inputs, study=inputs.study.model_copy(update={"runs": both}))
    assert same.base_runs == []
    assert list(same.groups) == ["champion"]
    alone = replace(same, config=same.config.model_copy(update={"search": None}))
    assert list(alone.groups) == ["base run"]

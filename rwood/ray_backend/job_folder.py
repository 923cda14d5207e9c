"""What travels with a submitted study: its command and its folder. Nothing secret."""

import importlib.util
import shlex
import shutil
from pathlib import Path, PurePosixPath

import yaml

import rwood
from rwood.config.scorers import scorer_kind
from rwood.config.search import KIND_OF, values_of
from rwood.config.study import StudyConfig
from rwood.errors import StudyError
from rwood.storage import is_remote
from rwood.text import without_password

STUDY_YAML = "study.yaml"
"""The resolved study, its benchmark inside, in the job's working directory."""


def entrypoint(results: Path, data_root: Path | None, tracking_uri: str | None) -> str:
    """The job's command.

    Raises:
        StudyError: a path that only means something here, or a login in the address.
    """
    words = ["python", "-m", "rwood", "run", STUDY_YAML]
    for option, path in (("--results", results), ("--data-root", data_root)):
        if path is None:
            continue
        if not is_remote(path) and not PurePosixPath(path).is_absolute():
            raise StudyError(
                f"{option} {path} is a path of this machine: name the folder as the cluster's "
                "nodes see it, from the root"
            )
        words += [option, str(path)]
    if tracking_uri is not None:
        if without_password(tracking_uri) != tracking_uri:
            raise StudyError(
                "--tracking-uri holds a login, which whoever lists jobs could read: leave it out "
                "and set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD on the head node"
            )
        words += ["--tracking-uri", tracking_uri]
    return shlex.join(words)


def fill(folder: Path, study: StudyConfig, *, code: bool) -> None:
    """The job's working directory: the study, rwood itself if it is to be sent, and its parts.

    Losses, scorers and backbones that are no installed package go along; an installed one has to be
    installed on the cluster too.
    """
    plain = yaml.safe_dump(study.model_dump(mode="json"), sort_keys=False)
    (folder / STUDY_YAML).write_text(plain, encoding="utf-8")
    if code:
        source = Path(rwood.__file__).parent
        shutil.copytree(source, folder / "rwood", ignore=shutil.ignore_patterns("__pycache__"))
        rwood.write_metadata(folder)
    for name in sorted({part.partition(":")[0].partition(".")[0] for part in _parts(study)}):
        spec = importlib.util.find_spec(name)
        origin = Path(spec.origin) if spec is not None and spec.origin else None
        if name == "rwood" or origin is None or "site-packages" in origin.parts:
            continue
        if origin.name == "__init__.py":
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(origin.parent, folder / name, ignore=ignored)
        else:
            shutil.copy(origin, folder / origin.name)


def _parts(study: StudyConfig) -> list[str]:
    """Classes and functions that a run of the study is made of, as `package.module:Name`."""
    run, space = study.run, study.search.space if study.search else {}
    parts = [run.loss.part, run.scorer.part, run.model.part]
    parts += [scorer_kind(name).part for name in study.rerun.scorers]
    for key, kind_of in KIND_OF.items():
        parts += [kind_of(str(name)).part for name in values_of(space, key)]
    return [part for part in parts if part]

"""YAML file -> config, with errors that name file, dotted key, what was got and what is allowed."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from rwood.config.base import Config
from rwood.config.benchmark import BenchmarkConfig
from rwood.config.run import RunConfig
from rwood.config.search import Params, apply, parts_among
from rwood.config.search_checks import check_search, no_such_setting
from rwood.config.sentences import spec_error
from rwood.config.study import StudyConfig
from rwood.config.yaml_text import parse
from rwood.errors import SpecError
from rwood.text import nearest

S = TypeVar("S", bound=Config)


def load_study(
    path: Path, assignments: Sequence[str] = (), trials: int | None = None
) -> StudyConfig:
    """Read a study file and the benchmark file that it names.

    Args:
        path: of the study file.
        assignments: `key=value` words that change its base run.
        trials: in place of its `search.trials`.

    Raises:
        SpecError: file missing, not a mapping, or a setting that cannot be.
    """
    data = _read_mapping(path)
    named = data.get("benchmark")
    if isinstance(named, str):
        benchmark = load_benchmark(path.parent / named, named_by=path)
        data = {**data, "benchmark": benchmark.model_dump(mode="json")}
    if trials is not None:
        if not isinstance(data.get("search"), dict):
            raise SpecError(f"--trials {trials}: {path} has no search", file=str(path))
        data = {**data, "search": {**data["search"], "trials": trials}}
    study = set_values(_validate(StudyConfig, data, path), assignments)
    with naming(path):
        check_search(study)
    return study


def load_benchmark(path: Path, named_by: Path | None = None) -> BenchmarkConfig:
    """Read a benchmark file.

    Raises:
        SpecError: file missing, not a mapping, or a setting that cannot be.
    """
    return _validate(BenchmarkConfig, _read_mapping(path, named_by), path)


def set_values(study: StudyConfig, assignments: Sequence[str]) -> StudyConfig:
    """The study with its base run changed by `key=value` words of a command line.

    Raises:
        SpecError: no `=`, no such setting, or a value that is not allowed there.
    """
    params: Params = {}
    for word in assignments:
        key, equals, text = word.partition("=")
        if not equals:
            raise SpecError(f"--set {word}: write it as key=value", key=word)
        try:
            params[key] = parse(text)
        except yaml.YAMLError:
            raise SpecError(f"--set {word}: {text} is not a value of YAML", key=key) from None
    try:
        try:
            run = apply(study.run, params)
        except KeyError as error:
            key, under = error.args[0], apply(study.run, parts_among(params))
            raise SpecError(f"--set {key}: {no_such_setting(key, under)}", key=key) from None
        plain = {**study.model_dump(mode="json"), "run": run.model_dump(mode="json")}
        return StudyConfig.model_validate_json(json.dumps(plain))
    except ValidationError as error:
        raise spec_error(error, RunConfig, prefix="--set ") from error


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Say in which file a setting stands that a later check refuses."""
    try:
        yield
    except SpecError as error:
        raise SpecError(f"{path}: {error}", **{**error.details, "file": str(path)}) from error


def _read_mapping(path: Path, named_by: Path | None = None) -> dict[str, Any]:
    """Plain values of a file."""
    with naming(path):
        try:
            data = parse(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            names = [p.name for p in sorted(path.parent.glob("*.yaml")) if p != named_by]
            near = nearest(path.name, names, cutoff=0.6)
            hint = f"; did you mean {path.parent / near}?" if near else ""
            raise SpecError(f"no such file{hint}") from None
        except (OSError, UnicodeDecodeError) as error:
            raise SpecError(f"cannot be read as text ({error})") from error
        except yaml.YAMLError as error:
            raise SpecError(f"not valid YAML: {' '.join(str(error).split())}") from error
        if not isinstance(data, dict):
            kinds = {list: "a list", type(None): "empty"}
            kind = kinds.get(type(data), f"a {type(data).__name__}")
            raise SpecError(f"the file is {kind}; it must be a mapping of settings")
        return data


def _validate(kind: type[S], data: dict[str, Any], path: Path) -> S:
    with naming(path):
        try:
            return kind.model_validate_json(json.dumps(data, default=str))
        except ValidationError as error:
            raise spec_error(error, kind, data) from error

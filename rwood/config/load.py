"""YAML file -> config, with errors that name file, dotted key, what was got and what is allowed."""

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from rwood.config.base import Config
from rwood.config.benchmark import BenchmarkConfig, ClassesSet
from rwood.config.losses import LOSSES, LossConfig, load_loss, loss_defaults, loss_kind
from rwood.config.run import RunConfig
from rwood.config.search import (
    LOSS,
    SCORER,
    Choices,
    Params,
    SearchConfig,
    apply,
    branches,
    check_space,
    contains,
    grid,
    has,
    setting,
    settings,
)
from rwood.config.study import StudyConfig, objectives
from rwood.config.yaml_text import parse
from rwood.errors import SpecError
from rwood.text import count_of, did_you_mean, nearest

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
        benchmark = _validate(
            BenchmarkConfig, _read_mapping(path.parent / named, path), path.parent / named
        )
        data = {**data, "benchmark": benchmark.model_dump(mode="json")}
    if trials is not None:
        if not isinstance(data.get("search"), dict):
            raise SpecError(f"--trials {trials}: {path} has no search", file=str(path))
        data = {**data, "search": {**data["search"], "trials": trials}}
    study = set_values(_validate(StudyConfig, data, path), assignments)
    if study.search is not None:
        _check_search(study, path)
    return study


def load_benchmark(path: Path) -> BenchmarkConfig:
    """Read a benchmark file.

    Raises:
        SpecError: file missing, not a mapping, or a setting that cannot be.
    """
    return _validate(BenchmarkConfig, _read_mapping(path), path)


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
        run = apply(study.run, params)
        plain = {**study.model_dump(mode="json"), "run": run.model_dump(mode="json")}
        return StudyConfig.model_validate_json(json.dumps(plain))
    except KeyError as error:
        key = error.args[0]
        loss = load_loss(loss_defaults(str(params[LOSS]))) if LOSS in params else study.run.loss
        under = study.run.model_copy(update={"loss": loss})
        raise SpecError(f"--set {key}: {_no_such_setting(key, under)}", key=key) from None
    except ValidationError as error:
        first = error.errors()[0]
        raise SpecError(f"--set {_sentence(first, RunConfig)}", key=_dotted(first)) from error


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Say in which file a setting stands that a later check refuses."""
    try:
        yield
    except SpecError as error:
        raise SpecError(f"{path}: {error}", **{**error.details, "file": str(path)}) from error


def _read_mapping(path: Path, asked_by: Path | None = None) -> dict[str, Any]:
    """Plain values of a file; `asked_by` names it and is not what was meant."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        names = [p.name for p in _yaml_files(path) if p != asked_by]
        near = nearest(path.name, names, cutoff=0.6)
        hint = f"; did you mean {path.parent / near}?" if near else ""
        raise SpecError(f"{path}: no such file{hint}", file=str(path)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: cannot be read as text ({error})", file=str(path)) from error
    try:
        data = parse(text)
    except yaml.YAMLError as error:
        where = " ".join(str(error).split())
        raise SpecError(f"{path}: not valid YAML: {where}", file=str(path)) from error
    if not isinstance(data, dict):
        kind = {list: "a list", type(None): "empty"}.get(type(data), f"a {type(data).__name__}")
        raise SpecError(
            f"{path}: the file is {kind}; it must be a mapping of settings", file=str(path)
        )
    return data


def _yaml_files(path: Path) -> list[Path]:
    return sorted(path.parent.glob("*.yaml")) if path.parent.is_dir() else []


def _validate(kind: type[S], data: dict[str, Any], path: Path) -> S:
    try:
        return kind.model_validate_json(json.dumps(data, default=str))
    except ValidationError as error:
        first = _most_telling(error.errors())
        missing = [_dotted(each) for each in error.errors() if each["type"] == "missing"]
        if first["type"] == "missing" and len(missing) > 1:
            raise SpecError(f"{path}: missing are {', '.join(missing)}", file=str(path)) from error
        raise SpecError(
            f"{path}: {_sentence(first, kind, data)}",
            file=str(path),
            key=_dotted(first),
            got=first["input"],
        ) from error


def _most_telling(errors: list[ErrorDetails]) -> ErrorDetails:
    """A misspelt key first: it often causes the others (`... is missing`)."""
    return next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])


def _dotted(error: ErrorDetails) -> str:
    """Dotted key, without pydantic's names of union members."""
    tags = {"str", "int", "float", "bool", "Range", "Choices"}
    tags |= {"FolderSet", "ListSet", "SubsetSet", "DerivedSet", "HeldOutSet"}
    tags |= {"named", "one", "several"}
    return ".".join(
        str(part)
        for part in error["loc"]
        if not (part in tags or str(part).startswith(("constrained-", "function-", "union")))
    )


def _sentence(error: ErrorDetails, kind: type[Config], data: Any = None) -> str:
    key, got = _dotted(error), error["input"]
    if error["type"] == "extra_forbidden":
        *parents, leaf = key.split(".")
        allowed = _keys_at(kind, parents, data)
        if leaf in allowed:
            others = ", ".join(name for name in _mapping_of(error, data) if name != leaf)
            return f"{key}: {leaf} cannot stand beside {others}: they are two ways to say it"
        hint = did_you_mean(leaf, allowed, f"allowed here: {', '.join(allowed)}")
        return f"{key}: unknown setting; {hint}"
    if error["type"] == "missing":
        return f"{key}: missing"
    if error["type"] == "value_error":
        return f"{key}: {error['ctx']['error']}" if key else str(error["ctx"]["error"])
    if isinstance(got, float) and not math.isfinite(got):
        return f"{key}: got {got}, must be a finite number"
    if error["type"] == "too_short" and not got:
        return f"{key}: must not be empty"
    if error["type"] == "string_pattern_mismatch":
        marks = "- and _, the first no mark" if key == "name" else "and _"
        return f"{key}: got {got!r}, a name has lower-case letters, digits, {marks}"
    message = error["msg"].removeprefix("Input ")
    return f"{key}: got {got!r}, {message[0].lower()}{message[1:]}"


def _mapping_of(error: ErrorDetails, data: Any) -> dict[str, Any]:
    """The mapping that holds the setting of an error; empty if there is none."""
    for part in error["loc"][:-1]:
        data = data[part] if isinstance(data, dict) and part in data else data
    return data if isinstance(data, dict) else {}


def _keys_at(kind: type[BaseModel], parents: list[str], data: Any) -> list[str]:
    """Settings allowed below dotted parents, of every member of a union."""
    models = [kind]
    for part in parents:
        data = data.get(part) if isinstance(data, dict) else None
        found: list[type[BaseModel]] = []
        for model in models:
            field = model.model_fields.get(part)
            if field is not None:
                found += _models_in(field.annotation)
        if LossConfig in found and isinstance(data, dict):
            found = [loss_kind(data.get("name", "reweightood"))]
        models = found or models
    return sorted({name for model in models for name in model.model_fields})


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if annotation is ClassesSet:  # which no file can name
        return []
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]


def _check_search(study: StudyConfig, path: Path) -> None:
    search = study.search
    assert search is not None
    allowed = objectives(study.benchmark)
    for wanted in search.objectives:
        if wanted in allowed:
            continue
        question = did_you_mean(wanted, allowed, cutoff=0.6)
        hint = f"{question} " if question else ""
        raise SpecError(
            f"{path}: search.objective: no validation set of benchmark {study.benchmark.name} "
            f"reports {wanted}; {hint}Sets: {', '.join(study.benchmark.validation)}",
            file=str(path),
            key="search.objective",
            got=wanted,
            allowed=allowed,
        )
    _check_hyperparameters(study.run, search, path)
    least = search.pruner.arguments.get("min_resource") if search.pruner else None
    if isinstance(least, int) and least > study.run.epochs:
        raise SpecError(
            f"{path}: search.pruner.min_resource: a trial of {count_of(study.run.epochs, 'epoch')} "
            f"would never be judged at epoch {least}; lower it, or set pruner to null",
            file=str(path),
            key="search.pruner.min_resource",
        )
    points = len(grid(study.run, search.space)) if search.is_grid else search.trials
    if search.trials > points:
        raise SpecError(
            f"{path}: search.trials: the grid has {count_of(points, 'point')}, not {search.trials}",
            file=str(path),
            key="search.trials",
        )


def _check_hyperparameters(run: RunConfig, search: SearchConfig, path: Path) -> None:
    """Every key is a setting under some loss of the space, every end of its range allowed there."""
    losses = {key: domain for key, domain in search.space.items() if key == LOSS}
    for key, domain in [*losses.items(), *search.space.items()]:
        try:
            check_space(run, losses | {key: domain})
        except KeyError:
            raise SpecError(
                f"{path}: search.space: {_no_such_setting(key, *branches(run, losses))}",
                file=str(path),
                key=key,
            ) from None
        except ValidationError as error:
            raise SpecError(
                f"{path}: search.space: {_sentence(error.errors()[0], RunConfig)}",
                file=str(path),
                key=key,
            ) from error
        scorers = search.space.get(SCORER) if key.startswith("scorer.") else None
        for name in scorers.choices if isinstance(scorers, Choices) else ():
            if not has(apply(run, {SCORER: name}), key):
                raise SpecError(
                    f"{path}: search.space: {key}: {name} has no such setting, and {SCORER} "
                    f"chooses it too; leave the choice to validation sets: run.{key}: [...]",
                    file=str(path),
                    key=key,
                )
        if has(run, key) and not contains(domain, setting(run, key)):
            raise SpecError(
                f"{path}: search.space: {key}: the base run's {setting(run, key)} is outside "
                f"the range; it is the first trial, so widen the range or change run.{key}",
                file=str(path),
                key=key,
            )


def _no_such_setting(key: str, *runs: RunConfig) -> str:
    """Why a key is none of a run's, under any of its losses."""
    group, _, leaf = key.partition(".")
    owners = [n for n, kind in LOSSES.items() if group == "loss" and leaf in kind.model_fields]
    if owners:
        names = ", ".join(run.loss.name for run in runs)
        return f"{key} is a setting of loss.name {' and '.join(owners)}, not of {names}"
    allowed = list(dict.fromkeys(name for run in runs for name in settings(run)))
    hint = did_you_mean(key, allowed, f"allowed: {', '.join(allowed)}")
    return f"{key} is not a setting of a run; {hint}"

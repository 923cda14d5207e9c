"""pydantic's error as one sentence: the dotted key, what it got, what is allowed."""

import math
from collections.abc import Callable
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from rwood.config.backbones import ModelConfig, model_kind
from rwood.config.base import Config
from rwood.config.benchmark import ClassesSet
from rwood.config.losses import LossConfig, loss_kind
from rwood.config.scorers import ScorerConfig, scorer_kind
from rwood.errors import SpecError
from rwood.text import did_you_mean

_TAGS = frozenset(
    "str int float bool Range Choices FolderSet ListSet SubsetSet DerivedSet HeldOutSet named one "
    "several".split()
)
"""Members of unions, which pydantic puts into the place of an error."""
_PARTS: dict[type[BaseModel], tuple[Callable[[str], type[BaseModel]], str, str]] = {
    LossConfig: (loss_kind, "name", "reweightood"),
    ScorerConfig: (scorer_kind, "name", "mahalanobis"),
    ModelConfig: (model_kind, "backbone", ""),
}
"""Settings of which a part's name tells more: by name, the key that holds it, its default."""


def spec_error(
    error: ValidationError, kind: type[Config], data: Any = None, prefix: str = ""
) -> SpecError:
    """The error to raise for a refused setting.

    A misspelt key comes first: it often causes the others (`... is missing`).
    """
    errors = error.errors()
    first = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])
    missing = [_dotted(e) for e in errors if e["type"] == "missing"]
    several = first["type"] == "missing" and len(missing) > 1
    text = f"missing are {', '.join(missing)}" if several else _sentence(first, kind, data)
    return SpecError(prefix + text, key=_dotted(first), got=first["input"])


def _dotted(error: ErrorDetails) -> str:
    """Dotted key, without pydantic's names of union members."""
    parts = [str(part) for part in error["loc"]]
    generated = ("constrained-", "function-", "union")
    return ".".join(p for p in parts if p not in _TAGS and not p.startswith(generated))


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
        fields = [model.model_fields[part] for model in models if part in model.model_fields]
        inner = [member for field in fields for member in _models_in(field.annotation)]
        if inner and inner[0] in _PARTS and isinstance(data, dict):
            kind_of, key, default = _PARTS[inner[0]]
            inner = [kind_of(data.get(key, default))]
        models = inner or models
    return sorted({name for model in models for name in model.model_fields})


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if annotation is ClassesSet:  # which no file can name
        return []
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]

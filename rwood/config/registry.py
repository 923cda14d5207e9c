"""Losses, scorers and backbones of other people: by entry point, or by `package.module:Name`.

A part is a class or a function whose keyword parameters are its settings. They stand in a study
file beside its name, are checked like any other setting, and can be searched.
"""

import importlib
import inspect
import json
import math
from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from importlib.metadata import entry_points
from typing import Any, ClassVar, Literal, TypeVar, get_type_hints

from pydantic import PydanticSchemaGenerationError, TypeAdapter, ValidationError, create_model
from pydantic_core import PydanticCustomError, PydanticSerializationError

from rwood.config.base import Config, Number, Unbounded
from rwood.text import did_you_mean

C = TypeVar("C", bound="PartConfig")
Kind = Literal["losses", "scorers", "backbones"]


class PartConfig(Config):
    """The settings of a loss, a scorer or a backbone."""

    part: ClassVar[str] = ""
    """Its class or function, as `package.module:Name`; empty for one of ours without any."""


@lru_cache
def find(kind: Kind, name: str, ours: tuple[str, ...]) -> tuple[Any, str]:
    """The class or function that a name stands for, and where it is, as `package.module:Name`.

    Args:
        kind: what is looked for; entry points are those of the group `rwood.<kind>`.
        name: of an entry point, or `package.module:Name`.
        ours: names that rwood itself has, for the error.

    Raises:
        ValueError: there is none, or it cannot be imported.
    """
    one = {"losses": "loss", "scorers": "scorer", "backbones": "backbone"}[kind]
    path = name
    if ":" not in name:
        points = {p.name: f"{p.module}:{p.attr}" for p in entry_points(group=f"rwood.{kind}")}
        if name not in points:
            raise ValueError(unknown(one, name, [*ours, *points]))
        path = points[name]
    module, _, attribute = path.partition(":")
    try:
        if module == "__main__":  # a notebook's cells
            raise ValueError("each worker has another __main__; put it into a module of its own")
        part = importlib.import_module(module)
        for step in attribute.split("."):
            part = getattr(part, step)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{one} {name} cannot be imported: {error}") from error
    if not callable(part):
        raise ValueError(f"{one} {name} is {type(part).__name__}, not a class or function")
    return part, path


def unknown(what: str, name: str, names: Collection[str]) -> str:
    """That there is no such name, and the nearest ones."""
    question = did_you_mean(name, names)
    hint = f"; {question}" if question else "."
    return (
        f"no {what} is called {name}{hint} There are {', '.join(names)}; "
        "one of your own is package.module:Name"
    )


def read(plain: Any, kind_of: Callable[[str], type[C]], default: str, key: str = "name") -> Any:
    """A part's settings from plain ones; what is no mapping is left for the model to refuse.

    Args:
        plain: settings, the part's name among them.
        kind_of: name -> model of its settings; raises ValueError if there is none.
        default: the name if none is given.
        key: the setting that holds the name.

    Raises:
        pydantic.ValidationError: there is no such part, or a setting cannot be.
    """
    if not isinstance(plain, Mapping):
        return plain
    name = plain.get(key, default)
    try:
        kind = kind_of(str(name))
    except ValueError as error:
        reason = PydanticCustomError("value_error", "{error}", {"error": str(error)})
        raise ValidationError.from_exception_data(
            key, [{"type": reason, "loc": (key,), "input": name}]
        ) from error
    return kind.model_validate_json(json.dumps(dict(plain), default=str))


def settings_of(
    found: tuple[Callable[..., Any], str],
    name: str,
    base: type[C],
    given: Collection[str],
    key: str = "name",
) -> type[C]:
    """The settings of a part as a model: what its parameters are called, their types and defaults.

    A parameter whose default is a tensor, a class or a function keeps it.

    Args:
        found: a class or function, and where it is; see `find`.
        name: what a study file calls it.
        base: the model that they are added to.
        given: parameters that are no settings: rwood fills them in.
        key: the setting that holds the name.

    Raises:
        ValueError: a parameter can only be given by position, has the name of something else in the
            base, or has to be given what no file can hold.
    """
    part, path = found
    hints = _hints(part)
    fields: dict[str, Any] = {key: (Literal[name], name)}
    for parameter in inspect.signature(part).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if parameter.name in given:
            continue
        required = parameter.default is parameter.empty
        default = None if required else parameter.default
        kind = hints.get(parameter.name, type(default) if isinstance(default, _PLAIN) else Any)
        unbounded = isinstance(default, float) and math.isinf(default)
        number = Unbounded if unbounded else Number
        kind = {float: number, float | None: number | None}.get(kind, kind)
        plain = _is_plain(kind, default)
        by_position = parameter.kind is parameter.POSITIONAL_ONLY
        inherited = getattr(base, parameter.name, None)
        free = inherited is None or hasattr(inherited, "__deprecated__")  # as pydantic's `copy`
        is_taken = parameter.name == key or not free
        if by_position or is_taken or (required and not plain):
            raise ValueError(f"{name}: its parameter {parameter.name} cannot be a setting")
        if required:
            fields[parameter.name] = (kind, ...)
        elif plain:  # Many write `size: int = None`.
            fields[parameter.name] = (kind | None if default is None else kind, default)
    title = name.rpartition(":")[2]
    kind_of_part = create_model(title, __base__=base, __module__=__name__, **fields)
    kind_of_part.part = path
    return kind_of_part


def asked_for(part: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the given arguments that a class or function has parameters for."""
    parameters = inspect.signature(part).parameters
    return {name: value for name, value in given.items() if name in parameters}


_PLAIN = (bool, int, float, str)


def _is_plain(kind: Any, default: Any) -> bool:
    """Whether a file can hold what a parameter takes: not a tensor, a class or a function."""
    try:
        TypeAdapter(kind).dump_json(default, warnings=False)
    except (PydanticSchemaGenerationError, PydanticSerializationError):
        return False
    return True


def _hints(part: Callable[..., Any]) -> dict[str, Any]:
    """Types of the parameters; those that cannot be read are left out."""
    try:
        return get_type_hints(part.__init__ if isinstance(part, type) else part)  # type: ignore[misc]
    except (NameError, TypeError):
        return {}

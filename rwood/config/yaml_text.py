"""YAML as settings are written: no key twice, no anchor that contains itself or multiplies."""

import re
from typing import Any

import yaml

_DEPTH = 100
"""Nesting of a settings file; pydantic takes JSON of 200 levels."""
_NODES = 100_000
"""Names and values of a settings file, aliases written out."""
_NAMES = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge")
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


def parse(text: str) -> Any:
    """Plain values of a YAML text.

    Raises:
        yaml.YAMLError: not YAML, a key twice in one mapping, or values that settings cannot be.
    """
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _check(node, (), [0])
        return loader.construct_document(node)
    except (AttributeError, LookupError, TypeError, ValueError) as error:  # PyYAML checks little
        raise _error("a date, number or other value that cannot be: {}", error, None) from error
    except RecursionError as error:
        raise _error("too many levels of nesting", 0, None) from error
    finally:
        loader.dispose()


def _check(node: yaml.Node, above: tuple[int, ...], count: list[int]) -> None:
    count[0] += 1
    if count[0] > _NODES:
        raise _error("aliases that make more than {} values", _NODES, node.start_mark)
    if len(above) > _DEPTH:
        raise _error("more than {} levels of nesting", _DEPTH, node.start_mark)
    if id(node) in above:
        raise _error("an anchor that contains itself", 0, node.start_mark)
    inside = (*above, id(node))
    scalar = isinstance(node, yaml.ScalarNode)
    if scalar and re.search("[\ud800-\udfff]", node.value):
        raise _error("half of a character, {!a}", node.value, node.start_mark)
    if scalar and node.tag in _NUMBERS and re.match(r"[-+]?0[\d_]+$|.*:", node.value):
        what = "{} is octal or base 60 to YAML: write a number in decimal, text in quotes"
        raise _error(what, node.value, node.start_mark)
    if isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _check(value, inside, count)
    if isinstance(node, yaml.MappingNode):
        names: set[tuple[str, str]] = set()
        for key, value in node.value:
            name = (key.tag, str(key.value))
            if name in names:
                raise _error("{} is set twice", key.value, key.start_mark)
            names.add(name)
            if key.tag not in _NAMES:
                raise _error("a name that is no text: put it in quotes", 0, key.start_mark)
            _check(key, inside, count)
            _check(value, inside, count)


def _error(what: str, value: object, mark: Any) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, what.format(value), mark)

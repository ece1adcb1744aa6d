"""Checks JSON against the published schemas of the bundle: the part of JSON Schema (2020-12) that they use.

A robot carries neither pydantic nor jsonschema; a test compares this with jsonschema on thousands of documents.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

NAMES = ("manifest", "safety")
KINDS: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "number": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
}
BOUNDS: dict[str, tuple[str, Callable[[Any, Any], bool], str]] = {
    "minimum": ("number", lambda value, bound: value >= bound, "at least"),
    "exclusiveMinimum": ("number", lambda value, bound: value > bound, "more than"),
    "maximum": ("number", lambda value, bound: value <= bound, "at most"),
    "exclusiveMaximum": ("number", lambda value, bound: value < bound, "less than"),
    "minLength": ("string", lambda value, bound: len(value) >= bound, "of a length of at least"),
    "maxLength": ("string", lambda value, bound: len(value) <= bound, "of a length of at most"),
    "minItems": ("array", lambda value, bound: len(value) >= bound, "of a length of at least"),
    "maxItems": ("array", lambda value, bound: len(value) <= bound, "of a length of at most"),
    "minProperties": ("object", lambda value, bound: len(value) >= bound, "of a size of at least"),
    "pattern": ("string", lambda value, bound: re.search(bound, value) is not None, "of the form"),
}


@cache
def schema(name: str) -> dict[str, Any]:
    """Returns a published schema: ``manifest`` or ``safety``."""
    found: dict[str, Any] = json.loads(schema_text(name))
    return found


def schema_text(name: str) -> str:
    """Returns a published schema as it is written."""
    return files("physai.deploy").joinpath("schemas", f"{name}.schema.json").read_text(encoding="utf-8")


def check(data: Any, name: str) -> None:
    """Checks a document against the schema of that name.

    Raises:
        ValueError: if it does not fit; says where, what is there and what is allowed.
    """
    root = schema(name)
    _check(data, root, root, f"{name}.json")


def _check(data: Any, rule: Mapping[str, Any], root: Mapping[str, Any], where: str) -> None:
    if "$ref" in rule:
        rule = root["$defs"][rule["$ref"].rpartition("/")[2]]
    kinds = rule.get("type")
    if kinds is not None:
        allowed = [kinds] if isinstance(kinds, str) else kinds
        if not any(KINDS[kind](data) for kind in allowed):
            raise ValueError(f"{where} is {_short(data)}; it must be of type {' or '.join(allowed)}")
    if "const" in rule and data != rule["const"]:
        raise ValueError(f"{where} is {_short(data)}; it must be {rule['const']!r}")
    if "enum" in rule and data not in rule["enum"]:
        raise ValueError(f"{where} is {_short(data)}; it must be one of {', '.join(map(repr, rule['enum']))}")
    for word in BOUNDS.keys() & rule.keys():
        kind, holds, says = BOUNDS[word]
        if KINDS[kind](data) and not holds(data, rule[word]):
            raise ValueError(f"{where} is {_short(data)}; it must be {says} {rule[word]}")
    if isinstance(data, dict):
        _check_object(data, rule, root, where)
    elif isinstance(data, list) and "items" in rule:
        for index, item in enumerate(data):
            _check(item, rule["items"], root, f"{where}[{index}]")


def _check_object(data: dict[str, Any], rule: Mapping[str, Any], root: Mapping[str, Any], where: str) -> None:
    for name in rule.get("required", ()):
        if name not in data:
            raise ValueError(f"{where} lacks {name!r}")
    known, others = rule.get("properties", {}), rule.get("additionalProperties", True)
    for name, value in data.items():
        if "propertyNames" in rule:
            _check(name, rule["propertyNames"], root, f"a name in {where}")
        if name in known:
            _check(value, known[name], root, f"{where}: {name}")
        elif others is False:
            raise ValueError(f"{where} has {_short(name)}, which is not known there")
        elif isinstance(others, dict):
            _check(value, others, root, f"{where}: {_short(name)}")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."

"""Decoded TOML or JSON to a frozen struct, with errors a person can act on: key, value, what was expected, close matches.

What the structs mean is the business of `recipe` and `bundle`; this only says where a file does not fit them.
"""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Iterator
from datetime import date, datetime, time
from typing import Any, Literal, TypeVar, get_args, get_origin

import msgspec

from edgedistill.errors import close_matches

S = TypeVar("S", bound=msgspec.Struct)


def to_struct(tree: Any, kind: type[S]) -> S:
    """Convert what tomllib or a JSON decoder returned into a struct; ValueError says what does not fit, and where."""
    try:
        for path, value in _leaves(tree):
            _check_leaf(path, value)
        return msgspec.convert(tree, kind)
    except msgspec.ValidationError as error:
        raise ValueError(_explain(error, tree, kind)) from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply; a few levels are enough") from error


def _leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (path, value) for all that is neither a table nor a list."""
    if isinstance(node, dict):
        for key, child in node.items():
            yield from _leaves(child, f"{path}.{key}".lstrip("."))
    elif isinstance(node, list):
        for index, child in enumerate(node):
            yield from _leaves(child, f"{path}[{index}]")
    else:
        yield path, node


def _check_leaf(path: str, value: Any) -> None:
    """Refuse what TOML can say, but no file of ours has a use for, and JSON could not carry."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{path} = {value}: expected a finite number")
    if isinstance(value, date | datetime | time):
        raise ValueError(f"{path} = {value}: expected no date; put it in quotes if a string is meant")


def _explain(error: msgspec.ValidationError, tree: Any, kind: type[msgspec.Struct]) -> str:
    match = re.fullmatch(r"(?P<what>.*?)(?: - at `\$\.?(?P<path>.*)`)?", str(error), re.DOTALL)
    what, path = (match["what"], match["path"] or "") if match else (str(error), "")
    unknown = re.fullmatch(r"Object contains unknown field `(?P<key>.*)`", what, re.DOTALL)
    if unknown:
        struct = _struct_in(_type_at(kind, path))
        known = [field.encode_name for field in msgspec.structs.fields(struct)] if struct else []
        full = f"{path}.{unknown['key']}".lstrip(".")
        return f"unknown key {reprlib.repr(full)}.{close_matches(unknown['key'], known)} Known here: {', '.join(known)}"
    value = _value_at(tree, path)
    subject = f"{path} = {reprlib.repr(value)}" if path and isinstance(value, str | int | float) else path or "the whole"
    choices = _choices_in(_type_at(kind, path)) if what.startswith("Invalid enum value") else []
    if choices:
        return f"{subject}: expected one of {', '.join(map(repr, choices))}.{close_matches(str(value), map(str, choices))}"
    return f"{subject}: {what[:1].lower()}{what[1:]}"


def _steps(path: str) -> list[str]:
    """Return the steps of a path such as `distill[0].weight`."""
    return re.findall(r"[^.\[\]]+", path)


def _value_at(tree: Any, path: str) -> Any:
    """Return what stands at a path of a decoded file, None if nothing does."""
    for step in _steps(path):
        if isinstance(tree, dict) and step in tree:
            tree = tree[step]
        elif isinstance(tree, list) and step.isdecimal() and int(step) < len(tree):
            tree = tree[int(step)]
        else:
            return None
    return tree


def _type_at(kind: Any, path: str) -> Any:
    """Return the annotation of the field at a path, None if there is no such field."""
    for step in (step for step in _steps(path) if not step.isdecimal()):
        struct = _struct_in(kind)
        kind = next((f.type for f in msgspec.structs.fields(struct) if f.encode_name == step), None) if struct else None
    return kind


def _struct_in(annotation: Any) -> Any:
    """Return the struct type inside `X`, `X | None` or `list[X]`."""
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return annotation
    inner = (_struct_in(argument) for argument in get_args(annotation))
    return next((kind for kind in inner if kind is not None), None)


def _choices_in(annotation: Any) -> list[Any]:
    """Return the values that a `Literal` somewhere inside an annotation allows."""
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [choice for inner in get_args(annotation) for choice in _choices_in(inner)]

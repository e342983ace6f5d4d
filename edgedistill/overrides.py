"""`--set KEY=VALUE`: one value of a recipe's tree changed by its dotted path, before the recipe is validated."""

from __future__ import annotations

import tomllib
from typing import Any

from edgedistill.errors import RecipeError


def apply_override(tree: dict[str, Any], override: str) -> None:
    """Change one value of a decoded TOML tree in place; RecipeError for an override that is not KEY=VALUE or fits nowhere."""
    key, separator, text = override.partition("=")
    parts = key.strip().split(".")
    if not separator or not all(parts):
        raise RecipeError(f"--set {override!r} is not KEY=VALUE; write for example --set train.epochs=3")
    node: Any = tree
    for part in parts[:-1]:
        node = _step(node, part, key)
    if isinstance(node, list):
        node[_index(node, parts[-1], key)] = _value_of(text)
    else:
        node[parts[-1]] = _value_of(text)


def _value_of(text: str) -> Any:
    """Return text as a TOML value, or as a plain string where it is none: `--set student.resize=crop` needs no quotes."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text.strip()
    return parsed["value"] if len(parsed) == 1 else text.strip()


def _step(node: Any, part: str, key: str) -> Any:
    child = node[_index(node, part, key)] if isinstance(node, list) else node.setdefault(part, {})
    if not isinstance(child, dict | list):
        raise RecipeError(f"--set {key}: {part!r} is a value, it has no keys below it")
    return child


def _index(node: list[Any], part: str, key: str) -> int:
    if part not in map(str, range(len(node))):
        raise RecipeError(f"--set {key}: {part!r} is not an index of a list of {len(node)}")
    return int(part)

"""recipe.toml to structs and back, and the digest that says whether two recipes are the same.

Paths in a recipe are relative to the recipe's file and absolute after `load`.
"""

from __future__ import annotations

import hashlib
import os
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from edgedistill.errors import RecipeError
from edgedistill.overrides import apply_override
from edgedistill.recipe.tables import Recipe, Recursive
from edgedistill.validation import to_struct

#: Kinds of sources and of teachers whose name is a path.
FILE_SOURCES = frozenset({"folder", "webdataset"})
FILE_TEACHERS = frozenset({"onnx", "tflite", "keras", "logits"})


def load(path: str | os.PathLike[str], *, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file, apply `key.path=value` overrides, and validate the whole."""
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a NUL in the path
        raise RecipeError(f"cannot read the recipe {file}: {error}; give the path of a recipe.toml") from error
    return decode(text, where=str(file), folder=file.resolve().parent, overrides=overrides)


def decode(text: str, *, where: str = "recipe", folder: Path | None = None, overrides: Sequence[str] = ()) -> Recipe:
    """Decode a recipe's text; `folder` is what its relative paths start from."""
    try:
        tree = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: TOMLDecodeError, or an integer of thousands of digits
        raise RecipeError(f"{where} is not TOML: {error}") from error
    for override in overrides:
        apply_override(tree, override)
    try:
        recipe = to_struct(tree, Recipe)
    except ValueError as error:
        raise RecipeError(f"{where}: {error}") from error
    return recipe if folder is None else _with_paths(recipe, lambda path: _absolute(path, folder))


def _absolute(path: str, folder: Path) -> str:
    if "::" in path:  # several shards, as WebDataset separates them
        return "::".join(_absolute(part, folder) for part in path.split("::"))
    return path if "://" in path else os.path.normpath(folder / os.path.expanduser(path))


def encode(recipe: Recipe, *, relative_to: Path | None = None) -> str:
    """Return the recipe as TOML, every default written out; with `relative_to`, paths below or beside it stay relative."""
    if relative_to is not None:
        recipe = _with_paths(recipe, lambda path: Path(os.path.relpath(path, relative_to)).as_posix() if os.path.isabs(path) else path)
    return msgspec.toml.encode(_drop_none(msgspec.to_builtins(recipe))).decode()


def digest(recipe: Recipe) -> str:
    """Return the SHA-256 of everything in a recipe but the folders of this machine, as 64 hexadecimal digits.

    Keys that have their default do not count, so that a new key of a later version leaves old digests as they are.
    """
    same = msgspec.convert(msgspec.to_builtins(recipe), Recipe)  # 0 and 0.0 are one value, however they were given
    same = _with_paths(same, lambda path: Path(path).name)
    away = {"data": msgspec.structs.replace(same.data, root=None), "cache": msgspec.structs.replace(same.cache, folder=None)}
    return hashlib.sha256(msgspec.json.encode(_without_defaults(msgspec.structs.replace(same, **away)), order="deterministic")).hexdigest()


def without_paths(source: str) -> str:
    """Return a source of images as it can be told to others: without the folders of this machine."""
    kind = source.partition(":")[0]
    return kind if kind in FILE_SOURCES else source


def _without_defaults(value: Any) -> Any:
    """Return a struct as nested dictionaries of the keys that differ from their default."""
    if isinstance(value, tuple | list):
        return [_without_defaults(item) for item in value]
    if not isinstance(value, msgspec.Struct):
        return value
    tag = {"kind": value.__struct_config__.tag} if value.__struct_config__.tag else {}
    fields = [field for field in msgspec.structs.fields(value) if getattr(value, field.name) != field.default]
    return tag | {field.encode_name: _without_defaults(getattr(value, field.name)) for field in fields}


def _with_paths(recipe: Recipe, change: Callable[[str], str]) -> Recipe:
    """Return the recipe with every path in it changed."""

    def after_kind(text: str, kinds: frozenset[str]) -> str:
        kind, _, path = text.partition(":")
        return f"{kind}:{change(path)}" if kind in kinds else text

    def network(spec: Any) -> Any:
        weights = spec.weights if spec.weights in (None, "pretrained") else change(spec.weights)
        spec = msgspec.structs.replace(spec, weights=weights, model=after_kind(spec.model, FILE_TEACHERS))
        prune = getattr(spec, "prune", None)
        if prune is None or prune.profile is None:
            return spec
        return msgspec.structs.replace(spec, prune=msgspec.structs.replace(prune, profile=change(prune.profile)))

    data = msgspec.structs.replace(
        recipe.data,
        source=after_kind(recipe.data.source, FILE_SOURCES),
        unlabelled=recipe.data.unlabelled and after_kind(recipe.data.unlabelled, FILE_SOURCES),
        root=recipe.data.root and change(recipe.data.root),
    )
    teacher: Any = recipe.teacher
    if teacher is not None:
        teacher = tuple(map(network, teacher)) if isinstance(teacher, tuple) else network(teacher)
    schedule = recipe.schedule
    if isinstance(schedule, Recursive):
        schedule = msgspec.structs.replace(schedule, assistants=tuple(map(network, schedule.assistants)))
    cache = msgspec.structs.replace(recipe.cache, folder=recipe.cache.folder and change(recipe.cache.folder))
    target = recipe.export.target
    export = msgspec.structs.replace(recipe.export, target=target if target in ("arm", "here") else change(target))
    student = network(recipe.student)
    return msgspec.structs.replace(recipe, data=data, student=student, teacher=teacher, schedule=schedule, cache=cache, export=export)


def _drop_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _drop_none(item) for key, item in value.items() if item is not None}
    return [_drop_none(item) for item in value] if isinstance(value, list | tuple) else value

"""What the teacher's answers on the views depend on, in clear text, and its SHA-256: the name of a cache.

The number of views and the batches of the students do not count, so a longer training uses the views of a shorter one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import numpy as np

from edgedistill.distill import views as drawing
from edgedistill.distill.cache.form import Form
from edgedistill.distill.loader import Views
from edgedistill.distill.teachers.teacher import Teacher
from edgedistill.recipe import Augment

#: Raise with any change of the files' layout, or of how the teacher is asked.
FORMAT = 1


def parts_of(teacher: Teacher, views: Views, form: Form) -> dict[str, Any]:
    """Return everything that the answers depend on, as JSON values."""
    images, spec = views.images, views.spec
    parts = {
        "format": FORMAT,
        "data": {
            "images": len(images),
            "sha256": images.sha256,
            "numbers": hashlib.sha256(np.ascontiguousarray(images.numbers, np.int64).tobytes()).hexdigest(),
        },
        "teacher": dict(teacher.identity),
        "views": {
            "version": drawing.VERSION,
            # without augmentation all views of an image are the same one, whatever the seed
            "seed": None if is_constant(views.augment) else views.seed,
            "augment": msgspec.to_builtins(views.augment),
            "preprocess": msgspec.to_builtins(spec),
        },
        "storage": msgspec.to_builtins(form),
    }
    return json.loads(json.dumps(parts, default=_as_json))


def is_constant(augment: Augment) -> bool:
    """Return whether all views of an image are the same."""
    return augment == Augment()


def fingerprint_of(parts: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the parts as 64 hexadecimal digits."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Return a line for each part that differs, such as 'views.seed 1 instead of 0'; ours comes first."""
    left, right = dict(_flat(ours, "")), dict(_flat(theirs, ""))
    names = list(dict.fromkeys([*left, *right]))
    return [f"{name} {_short(left.get(name))} instead of {_short(right.get(name))}" for name in names if left.get(name) != right.get(name)]


def _flat(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flat(item, f"{name}.{key}" if name else str(key))
    else:
        yield name, value


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:12]}…"


def _as_json(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    return msgspec.to_builtins(value)

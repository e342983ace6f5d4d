"""The terms that a recipe's `[[distill]]` can name. A new loss is a module here and a line in `LOSSES`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec
import torch
from torch import nn

from edgedistill.distill.losses import attention, cross_entropy, dist, dkd, exits, features, hard_label, hint, kd, similarity
from edgedistill.distill.losses.batch import Batch, Loss
from edgedistill.errors import RecipeError, close_matches
from edgedistill.recipe import Term, is_active

_FEATURES: frozenset[Literal["teacher", "features"]] = frozenset({"teacher", "features"})
_LOGITS = frozenset({"temperature", "standardize"})
LOSSES: dict[str, Loss] = {
    "cross_entropy": Loss(cross_entropy.cross_entropy, reads=frozenset({"label_smoothing"}), needs=frozenset({"labels"})),
    "kd": Loss(kd.kd, reads=_LOGITS, needs=frozenset({"teacher"})),
    "hard_label": Loss(hard_label.hard_label, reads=frozenset({"label_smoothing", "standardize"}), needs=frozenset({"teacher"})),
    "dkd": Loss(dkd.dkd, reads=_LOGITS | {"alpha", "beta"}, needs=frozenset({"teacher"})),
    "dist": Loss(dist.dist, reads=_LOGITS | {"alpha", "beta"}, needs=frozenset({"teacher"})),
    "hint": Loss(hint.hint, reads=frozenset({"layers"}), needs=_FEATURES, check=features.check_maps, part=hint.make_regressors),
    "attention": Loss(attention.attention, reads=frozenset({"layers", "beta"}), needs=_FEATURES, check=features.check_positions),
    "exits": Loss(exits.exits, reads=_LOGITS | {"alpha", "beta", "exits", "label_smoothing"}, part=exits.make_heads),
    "similarity": Loss(similarity.similarity, reads=frozenset({"layers", "beta"}), needs=_FEATURES),
}


def check_terms(terms: Sequence[Term], *, has_teacher: bool) -> None:
    """Raise RecipeError for a term that is unknown, has a key that its loss does not use, or needs a teacher where there is none."""
    for term in terms:
        loss = LOSSES.get(term.loss)
        if loss is None:
            raise RecipeError(f"distill: unknown loss {term.loss!r}.{close_matches(term.loss, LOSSES)} Known: {', '.join(LOSSES)}")
        given = {field.name for field in msgspec.structs.fields(term) if getattr(term, field.name) != field.default}
        given -= {name for name in ("layers", "exits") if not getattr(term, name)}
        if unused := sorted(given - loss.reads - {"loss", "weight", "epochs"}):
            uses = ", ".join(sorted(loss.reads)) or "no further key"
            raise RecipeError(f"distill: the loss {term.loss!r} does not use {', '.join(unused)}; it uses {uses}; take the others out")
        if "teacher" in loss.needs and not has_teacher:
            raise RecipeError(f"distill: the loss {term.loss!r} needs a teacher; add a [teacher] table, or take the term out")
        for name in ("layers", "exits"):
            if name in loss.reads and not getattr(term, name):
                raise RecipeError(f"distill: the loss {term.loss!r} needs {name}; name layers of the networks by their dotted names")
    if all({"layers", "exits"} & LOSSES[term.loss].reads for term in terms if term.weight > 0):
        raise RecipeError("distill: no term trains the student's last layer; add one on its logits, such as kd or cross_entropy")


def names_of(terms: Sequence[Term]) -> tuple[str, ...]:
    """Return a name for each term: that of its loss, with a number where a loss is there several times."""
    losses = [term.loss for term in terms]
    return tuple(name if losses.count(name) == 1 else f"{name}-{losses[:i].count(name) + 1}" for i, name in enumerate(losses))


def total_loss(
    batch: Batch, terms: Sequence[Term], *, epoch: int = 0, parts: Mapping[str, nn.Module] | None = None
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return the weighted sum of the terms that count in this epoch, and each of them unweighted by name, all scalars."""
    named: dict[str, torch.Tensor] = {}
    total = batch.student.new_zeros((), dtype=torch.float32)
    for name, term in zip(names_of(terms), terms, strict=True):
        if term.weight > 0 and is_active(term, epoch):
            part = [parts[name]] if parts and name in parts else []
            named[name] = LOSSES[term.loss].function(batch, term, *part)
            total = total + term.weight * named[name]
    return total, named

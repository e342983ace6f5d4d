"""What to distill, from whom, into what, and how it is exported: the tables of recipe.toml, and reading and writing it."""

from edgedistill.recipe.export import Export, Quantization, QuantizationAware
from edgedistill.recipe.files import decode, digest, encode, load, without_paths
from edgedistill.recipe.kinds import HALF_MEAN, HALF_STD, PerChannel
from edgedistill.recipe.pruning import Prune
from edgedistill.recipe.tables import (
    Augment,
    BornAgain,
    Cache,
    Data,
    Network,
    Recipe,
    Recursive,
    Student,
    Teacher,
    Term,
    Train,
    is_active,
)

__all__ = [
    "HALF_MEAN",
    "HALF_STD",
    "Augment",
    "BornAgain",
    "Cache",
    "Data",
    "Export",
    "Network",
    "PerChannel",
    "Prune",
    "Quantization",
    "QuantizationAware",
    "Recipe",
    "Recursive",
    "Student",
    "Teacher",
    "Term",
    "Train",
    "decode",
    "digest",
    "encode",
    "is_active",
    "load",
    "without_paths",
]

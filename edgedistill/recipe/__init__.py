"""What to distill, from whom, into what, and how it is exported: the tables of recipe.toml, and reading and writing it."""

from edgedistill.recipe.files import decode, digest, encode, load
from edgedistill.recipe.tables import (
    HALF_MEAN,
    HALF_STD,
    Augment,
    BornAgain,
    Cache,
    Data,
    Export,
    Network,
    PerChannel,
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
]

"""The view cache: the teacher answers each augmented view once, for all epochs and all students that are shown it.

A view is a pure function of (seed, view, image), so its answers can be kept. What a cache is made from is its fingerprint,
the name of its folder; with another fingerprint it is another cache. How the files look is said in `store` and `rows`.
"""

from edgedistill.distill.cache.cached import Cached, Surroundings, default_folder, folder_of

__all__ = ["Cached", "Surroundings", "default_folder", "folder_of"]

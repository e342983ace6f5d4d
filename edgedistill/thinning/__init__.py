"""How much to prune for a file of a certain size or speed: the ratio is searched by writing files and measuring them, before any training.

`search` chooses what to try, `files` writes and measures a trial, `board` scales a latency to another device. Pruning itself
is `distill`'s business; like `pipeline`, this knows both `distill` and `convert`.
"""

from edgedistill.thinning.resolve import resolve, with_target

__all__ = ["resolve", "with_target"]

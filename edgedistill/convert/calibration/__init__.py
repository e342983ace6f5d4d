"""The values that a student's graph takes on real images, and the ranges of 8 bits that follow from them.

`observe` takes them, once for all formats; `ranges` chooses from them, within what `rules` fix; `match` finds the tensors of a file
in the graph, by their values; `files` keeps the ranges with the bundle.
"""

from edgedistill.convert.calibration.files import read, write
from edgedistill.convert.calibration.match import match, node_values
from edgedistill.convert.calibration.observe import Statistics, images_sha256, observe
from edgedistill.convert.calibration.ranges import Method, ranges_of
from edgedistill.convert.calibration.span import Range, Ranges

__all__ = ["Method", "Range", "Ranges", "Statistics", "images_sha256", "match", "node_values", "observe", "ranges_of", "read", "write"]

"""The student as a graph of operators that files are written from: centred pixels in, logits out, all that can be folded is folded.

`prepare` makes it; `rewrite`, `batch_norm` and `normalization` are its steps, `checks` are what it refuses, `values` runs it and
keeps what is between, `softmax` appends to it, `blame` finds the layer that a converter stumbled over.
Calibration, equalization, bias correction, fake quantization and every writer work on this one graph.
"""

from edgedistill.convert.graph.blame import blame
from edgedistill.convert.graph.prepare import Graph, copy_of, prepare
from edgedistill.convert.graph.softmax import with_softmax
from edgedistill.convert.graph.values import activations, centred, logits_of

__all__ = ["Graph", "activations", "blame", "centred", "copy_of", "logits_of", "prepare", "with_softmax"]

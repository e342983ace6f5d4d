"""Training with fake quantization: a graph whose values and weights are rounded as an int8 TFLite file rounds them, taught by a teacher.

`points` reads from a file what it rounds, `fake_quant` makes the graph, `train` teaches it. What comes out is a float graph with learned
ranges, which is written and quantized like any other. Where batches and the teacher's answers come from is the caller's business.
"""

from edgedistill.convert.aware.fake_quant import fake_quantized, learned, ranged
from edgedistill.convert.aware.points import Points, points_of
from edgedistill.convert.aware.train import Batch, Batches, train

__all__ = ["Batch", "Batches", "Points", "fake_quantized", "learned", "points_of", "ranged", "train"]

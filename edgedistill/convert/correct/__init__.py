"""Students that lose too much in 8 bits, set right before calibration: equalization of channels and correction of biases.

The functions work on a copy of a `Graph`; what they cannot set right is left to quantization-aware distillation.
"""

from edgedistill.convert.correct.bias import correct_bias
from edgedistill.convert.correct.equalize import equalize

__all__ = ["correct_bias", "equalize"]

"""TFLite files: written from a graph, finished for those who use them, and read back.

`write` makes the fp32 file. `finish` changes a file in place: `flatbuffer` opens and packs it, `ends` puts operators in front
and behind, `versions` stamps what it needs to run, `metadata` and `labels` say what it is. `describe` reads back.
Quantization is `convert.quantize`'s business.
"""

from edgedistill.convert.tflite_file.describe import describe_tflite
from edgedistill.convert.tflite_file.finish import finish
from edgedistill.convert.tflite_file.write import write_tflite

__all__ = ["describe_tflite", "finish", "write_tflite"]

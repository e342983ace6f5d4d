"""ONNX files: written from the student's graph, finished with what users need to know, read back, and their kernels counted."""

from edgedistill.convert.onnx_file.describe import describe_onnx
from edgedistill.convert.onnx_file.kernels import Arithmetic, Kernels, arithmetic, unfused
from edgedistill.convert.onnx_file.metadata import finish, read_metadata
from edgedistill.convert.onnx_file.model import INPUT, OUTPUT, load, save, strip
from edgedistill.convert.onnx_file.values import tensor_values
from edgedistill.convert.onnx_file.write import write_onnx

__all__ = [
    "INPUT",
    "OUTPUT",
    "Arithmetic",
    "Kernels",
    "arithmetic",
    "describe_onnx",
    "finish",
    "load",
    "read_metadata",
    "save",
    "strip",
    "tensor_values",
    "unfused",
    "write_onnx",
]

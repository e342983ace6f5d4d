"""nn.Module to files: ONNX and TFLite, fp32 and int8, compared with the student and packed as a bundle.

`export.export_bundle` is the whole way. Below it: `graph` prepares the network, `onnx_fp32`, `onnx_int8`,
`tflite_fp32` and `tflite_int8` write one file each, `describe` reads back what was written, `parity` compares the files
with the student through the runtime, and `staging` puts the finished folder in its place. Training is `distill`'s
business, running on a device is `runtime`'s.
"""

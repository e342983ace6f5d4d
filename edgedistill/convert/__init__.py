"""nn.Module to files: ONNX and TFLite, fp32 and quantized, each through two gates, packed as a bundle.

`export.export_bundle` is the whole way: `graph` makes one graph of the student, which all else works on. `forms` are what is
quantized, with ranges from `calibration`: the student as trained, equalized by `correct`, or trained with fake quantization by
`aware`. `select` tries the ways of `quantize` and keeps the first that `measure` finds right (`parity`) and fast (`audit`).
`onnx_file` and `tflite_file` write, finish and read back files; `report` tells what was found, and `staging` puts the finished
folder in its place. Training is `distill`'s business, running on a device is `runtime`'s.
"""

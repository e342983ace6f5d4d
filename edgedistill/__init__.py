"""edgedistill: distill a vision teacher into a small student, export it, run it on a camera.

The layers, from light to heavy (each may import those above it in this list, see tests/test_layering.py):

- contract: `errors`, `validation`, `overrides`, `recipe`, `manifest`, `bundle`, `preprocess`, `postprocess`, `latency`,
  `metrics`, `streams` (numpy, msgspec; cv2 to resize)
- `runtime`: what runs on the device (numpy, OpenCV and one interpreter)
- `distill`: teacher, student, losses, the training loop (torch)
- `convert`: an `nn.Module` to a bundle of ONNX and TFLite files (onnx, litert-torch)
- `demo`, `cli`: put the parts together (click)
"""

__version__ = "0.1.0"

"""Make the two tiny TFLite files that the runtime's tests run: a red/green/blue classifier with weights set by hand.

    python tests/data/make_tiny_tflite.py

Needs the workstation extra (torch, litert-torch, ai-edge-quantizer). Both files take raw RGB pixels of 12 x 16, NHWC:
float32 0 to 255, or int8 with scale 1 and zero point -128.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent
HEIGHT, WIDTH, CLASSES = 12, 16, 3


def network():
    """Return a torch module whose logits are, roughly, how much redder, greener or bluer an image is than its other two channels."""
    import torch
    from torch import nn

    class Colours(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, CLASSES, 3, stride=2, padding=1)
            self.head = nn.Linear(CLASSES, CLASSES)
            with torch.no_grad():
                mix = 1.5 * torch.eye(CLASSES) - 0.5
                self.conv.weight.copy_((mix / 9)[:, :, None, None].expand(CLASSES, 3, 3, 3))
                self.conv.bias.fill_(0.1)
                self.head.weight.copy_(4 * torch.eye(CLASSES) - 1)
                self.head.bias.copy_(torch.tensor([0.2, 0.0, -0.2]))

        def forward(self, pixels_nhwc):
            x = (pixels_nhwc.permute(0, 3, 1, 2) - 128) / 127.5
            return self.head(torch.relu(self.conv(x)).mean((2, 3)))

    return Colours().eval()


def calibration_pixels() -> list[np.ndarray]:
    """Return a red card: its logits span the whole range, its pixels reach from 0 to 255 (input scale 1, zero point -128).

    One image, because the quantizer takes a moving average of the ranges over images.
    """
    return [np.full((1, HEIGHT, WIDTH, 3), (255, 0, 0), np.float32)]


def main() -> None:
    import litert_torch
    import torch
    from ai_edge_quantizer import quantizer, recipe

    fp32 = FOLDER / "tiny-fp32.tflite"
    litert_torch.convert(network(), (torch.zeros(1, HEIGHT, WIDTH, 3),)).export(str(fp32))
    quantize = quantizer.Quantizer(str(fp32), recipe.static_wi8_ai8())
    ranges = quantize.calibrate({"serving_default": [{"args_0": pixels} for pixels in calibration_pixels()]})
    quantize.quantize(ranges).export_model(str(FOLDER / "tiny-int8.tflite"), overwrite=True)


if __name__ == "__main__":
    main()

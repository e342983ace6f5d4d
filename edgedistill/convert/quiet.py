"""Keeps the exporters' own messages off stdout and stderr while they work; what goes wrong still raises.

Only what is known and harmless is silenced; each entry below says whose it is.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

#: Loggers that tell progress or advice as warnings: torchao's registration, the exporter's passes, onnxruntime's hints.
_LOGGERS = ("torch.utils._pytree", "torch.onnx", "torch.export", "torch.fx", "onnxscript", "onnx_ir", "torchao", "jax", "absl", "root")


@contextmanager
def quietly() -> Iterator[None]:
    """Silence third-party progress, advice and deprecation warnings for the length of the block."""
    # The converter's C++ part reads this when it is loaded; 2 leaves errors.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    loggers = [logging.getLogger(None if name == "root" else name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for category in (DeprecationWarning, FutureWarning, UserWarning, ImportWarning):
                warnings.simplefilter("ignore", category)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)

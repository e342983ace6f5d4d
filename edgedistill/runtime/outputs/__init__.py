"""What a run shows of its results: lines of text, JSON or CSV, an annotated picture, a video file, a window."""

from edgedistill.runtime.outputs.lines import LINES, LineOutput, json_line, line_output, own_stdout, text_line
from edgedistill.runtime.outputs.picture import annotate
from edgedistill.runtime.outputs.screen import WINDOW, show, window
from edgedistill.runtime.outputs.summary import summary_text
from edgedistill.runtime.outputs.video import CODECS, DEFAULT_FPS, AnnotatedVideo, VideoFile

__all__ = [
    "CODECS",
    "DEFAULT_FPS",
    "LINES",
    "WINDOW",
    "AnnotatedVideo",
    "LineOutput",
    "VideoFile",
    "annotate",
    "json_line",
    "line_output",
    "own_stdout",
    "show",
    "summary_text",
    "text_line",
    "window",
]

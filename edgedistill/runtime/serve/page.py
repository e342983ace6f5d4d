"""The live page and the one that asks for the token: packaged files put together into one document each.

Styles and scripts are inside the page, and the browser is told to run those and no others, by their hashes.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files

from edgedistill.runtime.serve.answer import Answer


@cache
def live() -> Answer:
    """Return the live page."""
    return _page("page.html", script=_file("graph.js") + _file("page.js"))


@cache
def login(line: str, status: int) -> Answer:
    """Return the page that asks for the token, with a line that says what was wrong."""
    return _page("token.html", status=status, line=line)


def _page(name: str, *, script: str = "", status: int = 200, line: str = "") -> Answer:
    style = _file("page.css")
    html = _file(name).replace("/*style*/", style).replace("/*script*/", script).replace("<!--line-->", line)
    policy = [
        "default-src 'none'",
        f"style-src '{sha256(style)}'",
        f"script-src '{sha256(script)}'" if script else "script-src 'none'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
    return Answer(status, html.encode(), "text/html; charset=utf-8", {"Content-Security-Policy": "; ".join(policy)})


def sha256(text: str) -> str:
    """Return the hash of an inline style or script as a content policy names it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _file(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")

"""The live page, the metrics and the health checks of a running loop, on one port; reads only its monitor.

options   where and to whom            routes    path → answer, a table; nothing is a file
listen    port and TLS                 state     JSON, readiness, latency of two minutes
server    connections and their limits metrics   Prometheus
request   heads, taken apart           preview   pictures, encoded once and only while somebody looks
access    token, cookie, Host          page      page.html, page.css, page.js as one document
"""

from edgedistill.runtime.serve.listen import serve
from edgedistill.runtime.serve.options import ServeOptions, parse_bind, read_token, token_for

__all__ = ["ServeOptions", "parse_bind", "read_token", "serve", "token_for"]

"""Opens the port, with TLS where it is asked for, and serves there as long as a `with` block lasts."""

from __future__ import annotations

import errno
import logging
import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from edgedistill.errors import OutputError
from edgedistill.runtime.serve.access import Access
from edgedistill.runtime.serve.options import ServeOptions, is_loopback
from edgedistill.runtime.serve.routes import Routes, Watched
from edgedistill.runtime.serve.server import Server

log = logging.getLogger("edgedistill.runtime")

BACKLOG = 128
EVERYWHERE = ("0.0.0.0", "::")
ADVICE = {
    errno.EADDRINUSE: "take another port, or end what uses it",
    errno.EACCES: "take a port from 1024 on",
    errno.EADDRNOTAVAIL: "give an address of this machine",
}


@contextmanager
def serve(monitor: Watched, options: ServeOptions) -> Iterator[str]:
    """Serve a run and yield the page's address, without the token; raises OutputError if that cannot be done."""
    if options.token is None and not is_loopback(options.host):
        raise OutputError(f"serving at {options.host} shows the camera to others and needs a token; give --token-file")
    tls = tls_context(options)
    listening = listen(options)
    port = int(listening.getsockname()[1])
    routes = Routes(monitor, options)
    server = Server(listening, routes, access=Access(options, port=port), tls=tls)
    server.start()
    if tls is None and not is_loopback(options.host):
        log.warning("the live page is served without TLS: others on the network can read pictures and token; see --tls-cert")
    try:
        yield address(options, port)
    finally:
        server.close()


def listen(options: ServeOptions) -> socket.socket:
    """Return a socket that listens where the options say; for :: also to IPv4."""
    where = f"{options.host}, port {options.port}"
    try:
        family, _, _, _, place = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        both = options.host == "::" and socket.has_dualstack_ipv6()
        listening = socket.create_server(place[:2], family=family, backlog=BACKLOG, dualstack_ipv6=both)
    except socket.gaierror as error:
        raise OutputError(f"the live page cannot be served at {where}: {error.strerror}; give a name or address of this machine") from error
    except OSError as error:
        advice = ADVICE.get(error.errno or 0, "take another host or port")
        raise OutputError(f"the live page cannot be served at {where}: {os.strerror(error.errno or 0)}; {advice}") from error
    listening.setblocking(False)
    return listening


def tls_context(options: ServeOptions) -> ssl.SSLContext | None:
    """Return what https needs, None for http; raises OutputError for a certificate or key that cannot be used."""
    if options.tls_cert is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # without a password callback, a key with a password would be asked for on the terminal
        context.load_cert_chain(options.tls_cert, options.tls_key, password=lambda: "")
    except OSError as error:  # SSLError is one
        files = " and ".join(str(path) for path in (options.tls_cert, options.tls_key) if path is not None)
        raise OutputError(
            f"https cannot be served with {files}: {error.strerror or error}; expected a certificate and its key in PEM, without a password"
        ) from error
    return context


def address(options: ServeOptions, port: int) -> str:
    """Return the page's address as others on the network would write it."""
    host = socket.gethostname() if options.host in EVERYWHERE else options.host
    return f"{'https' if options.tls_cert else 'http'}://{f'[{host}]' if ':' in host else host}:{port}/"

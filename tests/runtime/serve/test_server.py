"""The server over real sockets: every status, tokens, limits, TLS, and visitors who do not behave."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import cv2
import numpy as np
import pytest
from asking import PATIENCE_S, ask, connect, parsed, read_part, say
from watched import ToldSource, add, fed, watching

from edgedistill.errors import OutputError
from edgedistill.runtime.monitor import Monitor
from edgedistill.runtime.serve import ServeOptions, serve
from edgedistill.runtime.serve import server as server_module

TOKEN = "a-good-long-token"
BEARER = f"Bearer {TOKEN}"


@pytest.fixture
def monitor() -> Monitor:
    """A run of two sources, with one result of the first."""
    found = watching(ToldSource(0), ToldSource(1))
    add(found, 1)
    return found


@pytest.fixture
def address(monitor: Monitor) -> Iterator[str]:
    with serve(monitor, ServeOptions(port=0, preview_fps=60)) as where:
        yield where


@pytest.fixture
def guarded(monitor: Monitor, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a page on all networks, which needs a token."""
    monkeypatch.setattr(server_module, "WRONG_TOKEN_S", 0.01)
    with serve(monitor, ServeOptions(host="0.0.0.0", port=0, token=TOKEN)) as where:
        yield f"http://127.0.0.1:{where.rstrip('/').rpartition(':')[2]}/"


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith(("live page", "preview"))}


@pytest.mark.parametrize(
    ("path", "status", "content_type"),
    [
        ("/", 200, "text/html; charset=utf-8"),
        ("/state.json", 200, "application/json"),
        ("/state.json?history", 200, "application/json"),
        ("/snapshot.jpg", 200, "image/jpeg"),
        ("/snapshot.jpg?source=0", 200, "image/jpeg"),
        ("/snapshot.jpg?source=1", 503, "text/plain; charset=utf-8"),
        ("/snapshot.jpg?source=2", 404, "text/plain; charset=utf-8"),
        ("/snapshot.jpg?source=-1", 404, "text/plain; charset=utf-8"),
        ("/snapshot.jpg?source=x", 404, "text/plain; charset=utf-8"),
        ("/stream.mjpg?source=9", 404, "text/plain; charset=utf-8"),
        ("/metrics", 200, "text/plain; version=1.0.0; charset=utf-8"),
        ("/healthz", 200, "text/plain; charset=utf-8"),
        ("/readyz", 200, "text/plain; charset=utf-8"),
        ("/nothing", 404, "text/plain; charset=utf-8"),
        ("/state.json/", 404, "text/plain; charset=utf-8"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_every_path(address: str, path: str, status: int, content_type: str, method: str) -> None:
    reply = ask(address, path, method=method)
    assert reply.status == status
    assert reply.headers["content-type"].split(";")[0] == content_type.split(";")[0]
    if method == "GET":
        assert int(reply.headers["content-length"]) == len(reply.body) > 0
    else:
        assert reply.body == b""


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "//etc/passwd",
        "/./state.json",
        "/page.js",
        "/..%2fserver.py",
        "/%00",
        "/state.json%00.jpg",
        "/static/../../../etc/passwd",
        "/page.html",
        "/..\\..\\etc\\passwd",
        "/;/etc/passwd",
        "/~root",
        "/.git/config",
    ],
)
def test_no_path_leads_to_a_file(address: str, path: str) -> None:
    reply = ask(address, path)
    assert reply.status == 404
    assert b"root:" not in reply.body


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET /../etc/passwd HTTP/1.0\r\n\r\n", 404),
        (b"GET http://localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc", 405),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n" + b"x" * 100_000, 413),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n", 413),
        (b"GET /" + b"a" * 3000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414),
        (b"GET /" + b"a" * 200_000, 414),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 200_000, 431),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 30_000, 431),
        (b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421),
        (b"GET / HTTP/2.0\r\nHost: localhost\r\n\r\n", 505),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n", 400),
    ],
)
def test_odd_requests_are_refused(address: str, data: bytes, status: int) -> None:
    reply = say(address, data)
    assert reply.status == status
    assert reply.headers["connection"] == "close"
    assert ask(address, "/healthz").status == 200


@pytest.mark.parametrize("path", ["/", "/state.json", "/metrics", "/healthz", "/nothing", "/snapshot.jpg"])
def test_every_answer_has_the_headers_that_keep_browsers_in_bounds(address: str, path: str) -> None:
    headers = ask(address, path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert "server" not in headers


def test_the_method_that_is_allowed_is_told(address: str) -> None:
    assert ask(address, "/", method="PUT").headers["allow"] == "GET, HEAD"


def test_state_and_history(address: str, monitor: Monitor) -> None:
    found = json.loads(ask(address, "/state.json").body)
    assert (found["schema"], found["results"], found["ready"]) == (1, 1, True)
    assert found["sources"][0]["answer"][0]["label"] == "T-shirt"
    assert "history" not in found
    assert set(json.loads(ask(address, "/state.json?history").body)["history"]) >= {"invoke", "p50", "p99"}


def test_a_snapshot_is_the_newest_frame(address: str, monitor: Monitor) -> None:
    first = ask(address, "/snapshot.jpg").body
    assert cv2.imdecode(np.frombuffer(first, np.uint8), cv2.IMREAD_COLOR).shape == (480, 640, 3)
    add(monitor, 40)
    assert ask(address, "/snapshot.jpg").body != first


def test_a_stream_shows_each_newer_frame(address: str, monitor: Monitor) -> None:
    with connect(address) as viewer:
        viewer.sendall(b"GET /stream.mjpg?source=0 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        first, rest = read_part(viewer)
        add(monitor, 20)
        second, rest = read_part(viewer, rest)
        add(monitor, 40)
        third, _ = read_part(viewer, rest)
    assert len({first, second, third}) == 3
    assert all(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR).shape == (480, 640, 3) for jpeg in (first, second, third))


def test_a_stream_tells_what_it_is(address: str) -> None:
    reply = ask(address, "/stream.mjpg", method="HEAD")
    assert reply.status == 200
    assert reply.headers["content-type"] == "multipart/x-mixed-replace; boundary=edgedistill-frame"
    assert "content-length" not in reply.headers


def test_sources_have_streams_of_their_own(address: str, monitor: Monitor) -> None:
    add(monitor, 5, source=1)
    with connect(address) as viewer:
        viewer.sendall(b"GET /stream.mjpg?source=1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        of_second, _ = read_part(viewer)
    image_bgr = cv2.imdecode(np.frombuffer(of_second, np.uint8), cv2.IMREAD_COLOR)
    assert abs(int(image_bgr[470, 5, 1]) - 110) < 8


def test_without_preview_there_are_figures_but_no_pictures(monitor: Monitor) -> None:
    with serve(monitor, ServeOptions(port=0, preview=False)) as where:
        assert ask(where, "/snapshot.jpg").status == 404
        assert ask(where, "/stream.mjpg").status == 404
        assert json.loads(ask(where, "/state.json").body)["preview"] is False


def test_ready_only_while_results_come() -> None:
    monitor = watching(ToldSource(0, name="door", state="opening"))
    with serve(monitor, ServeOptions(port=0)) as where:
        reply = ask(where, "/readyz")
        assert (reply.status, reply.body) == (503, b"no result yet; door is opening\n")
        assert ask(where, "/healthz").status == 200
        add(monitor, 1)
        time.sleep(0.55)  # longer than one snapshot answers
        assert ask(where, "/readyz").status == 200


def test_metrics_without_the_package_tell_how_to_install_it(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    reply = ask(address, "/metrics")
    assert reply.status == 501
    assert b"pip install 'edgedistill[iot]'" in reply.body


def test_a_fault_in_one_answer_is_logged_and_ends_nothing(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monitor = watching()
    with serve(monitor, ServeOptions(port=0)) as where:
        monkeypatch.setattr(monitor, "status", lambda: 1 / 0)
        assert ask(where, "/state.json").status == 500
        assert ask(where, "/healthz").status == 200
    assert "ZeroDivisionError" in caplog.text


# ---- tokens


@pytest.mark.parametrize("path", ["/state.json", "/stream.mjpg", "/snapshot.jpg", "/metrics", "/nothing", "/../etc/passwd"])
def test_nothing_is_shown_without_the_token(guarded: str, path: str) -> None:
    reply = ask(guarded, path)
    assert (reply.status, reply.headers["www-authenticate"]) == (401, "Bearer")
    assert ask(guarded, path, Authorization="Bearer wrong").status == 401
    assert ask(guarded, f"{path}?token={TOKEN}").status == 401


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_needs_no_token(guarded: str, path: str) -> None:
    assert ask(guarded, path).status == 200


def test_the_page_takes_the_token_from_its_address_into_a_cookie(guarded: str) -> None:
    asked = ask(guarded)
    assert asked.status == 401
    assert b"<form" in asked.body
    wrong = ask(guarded, "/?token=wrong")
    assert wrong.status == 401
    assert b"the token is wrong" in wrong.body
    entered = ask(guarded, f"/?token={TOKEN}")
    assert (entered.status, entered.headers["location"], entered.body) == (303, "/", b"")
    cookie = entered.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    own = cookie.partition(";")[0]
    for path in ("/", "/state.json", "/snapshot.jpg", "/metrics"):
        assert ask(guarded, path, Cookie=own).status == 200
        assert ask(guarded, path, Authorization=BEARER).status == 200
    assert TOKEN.encode() not in ask(guarded, "/", Cookie=own).body


def test_who_guesses_is_stopped(guarded: str) -> None:
    replies = [ask(guarded, "/state.json", Authorization=f"Bearer guess{number}").status for number in range(14)]
    assert replies == [401] * 10 + [429] * 4
    stopped = ask(guarded, "/state.json", Authorization=BEARER)
    assert (stopped.status, stopped.headers["retry-after"]) == (429, "60")
    assert ask(guarded, "/healthz").status == 200


def test_a_wrong_token_is_told_late_and_holds_nobody_else(monitor: Monitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "WRONG_TOKEN_S", 0.4)
    with serve(monitor, ServeOptions(port=0, token=TOKEN)) as where, connect(where) as guesser:
        guesser.sendall(b"GET /state.json HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer wrong\r\n\r\n")
        began_s = time.monotonic()
        assert ask(where, "/state.json", Authorization=BEARER).status == 200
        assert guesser.recv(20).startswith(b"HTTP/1.1 401")
        assert time.monotonic() - began_s >= 0.3


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "pi.local"])
def test_others_are_never_let_in_without_a_token(monitor: Monitor, host: str) -> None:
    with pytest.raises(OutputError, match="needs a token"), serve(monitor, ServeOptions(host=host, port=0)):
        pass


def test_on_the_network_without_tls_that_is_told(monitor: Monitor, caplog: pytest.LogCaptureFixture) -> None:
    with serve(monitor, ServeOptions(host="0.0.0.0", port=0, token=TOKEN)) as where:
        assert where.startswith(f"http://{socket.gethostname()}:")
    assert "without TLS" in caplog.text
    assert TOKEN not in caplog.text


def test_the_token_is_in_no_answer(guarded: str) -> None:
    for path in ("/", "/state.json?history", "/metrics", "/readyz", "/nothing"):
        reply = ask(guarded, path, Authorization=BEARER)
        assert TOKEN not in f"{reply.headers}{reply.body!r}"


# ---- TLS, addresses, ports


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that it signed itself, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    request = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1"
    about = "-nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    subprocess.run([*request.split(), *about.split(), "-out", cert, "-keyout", key], check=True, capture_output=True, timeout=60)
    return cert, key


def trusting(cert: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=cert)


def test_https(monitor: Monitor, certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    with serve(monitor, ServeOptions(port=0, token=TOKEN, tls_cert=cert, tls_key=key)) as where:
        assert where.startswith("https://127.0.0.1:")
        tls = trusting(cert)
        assert "; Secure" in ask(where, f"/?token={TOKEN}", tls=tls).headers["set-cookie"]
        assert ask(where, "/state.json", tls=tls, Authorization=BEARER).status == 200
        with connect(where, tls=tls) as viewer:
            assert isinstance(viewer, ssl.SSLSocket)
            assert viewer.version() in ("TLSv1.2", "TLSv1.3")
            viewer.sendall(f"GET /stream.mjpg HTTP/1.1\r\nHost: localhost\r\nAuthorization: {BEARER}\r\n\r\n".encode())
            assert len(read_part(viewer)[0]) > 1000


def test_https_refuses_what_is_no_tls(monitor: Monitor, certificate: tuple[Path, Path], caplog: pytest.LogCaptureFixture) -> None:
    cert, key = certificate
    with serve(monitor, ServeOptions(port=0, tls_cert=cert, tls_key=key)) as where:
        with connect(where) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            with suppress(ConnectionError):  # cut off at once is as good
                assert b"HTTP/1.1 200" not in plain.recv(1000)
        with pytest.raises(ssl.SSLError):
            ask(where, tls=ssl.create_default_context())
        assert ask(where, "/healthz", tls=trusting(cert)).status == 200
    assert [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []


def test_a_certificate_that_cannot_be_used_is_told(monitor: Monitor, certificate: tuple[Path, Path], tmp_path: Path) -> None:
    cert, _ = certificate
    broken = tmp_path / "broken.pem"
    broken.write_text("nothing")
    for options in ({"tls_cert": tmp_path / "none.pem"}, {"tls_cert": broken}, {"tls_cert": cert}, {"tls_cert": cert, "tls_key": broken}):
        with pytest.raises(OutputError, match="https cannot be served with"), serve(monitor, ServeOptions(port=0, **options)):
            pass


@pytest.mark.skipif(not socket.has_ipv6 or not Path("/proc/net/if_inet6").exists(), reason="no IPv6 here")
def test_ipv6(monitor: Monitor) -> None:
    with serve(monitor, ServeOptions(host="::1", port=0)) as where:
        assert where.startswith("http://[::1]:")
        assert ask(where, "/healthz", Host="[::1]").status == 200


def test_a_port_that_is_taken_is_told(monitor: Monitor, address: str) -> None:
    port = int(address.rstrip("/").rpartition(":")[2])
    with (
        pytest.raises(OutputError, match=f"port {port}: Address already in use; take another port"),
        serve(monitor, ServeOptions(port=port)),
    ):
        pass


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_a_place_that_is_not_here_is_told(monitor: Monitor, host: str) -> None:
    with pytest.raises(OutputError, match=f"cannot be served at {host}"), serve(monitor, ServeOptions(host=host, port=0, token=TOKEN)):
        pass


# ---- visitors who do not behave


def test_who_does_not_finish_a_request_is_sent_away(monitor: Monitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "REQUEST_S", 0.3)
    with serve(monitor, ServeOptions(port=0)) as where, connect(where) as slow, connect(where) as silent:
        slow.sendall(b"GET / HT")
        for byte in b"TP/1.1\r\nX: " + b"a" * 1000:  # a byte now and then keeps nobody in
            try:
                slow.sendall(bytes([byte]))
            except OSError:
                break
            time.sleep(0.005)
        assert parsed(silent.recv(10_000)).status == 408
        assert ask(where, "/healthz").status == 200


def test_many_who_say_nothing_keep_nobody_out(monitor: Monitor) -> None:
    with serve(monitor, ServeOptions(port=0)) as where, ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(connect(where))
        assert ask(where, "/healthz").status == 200


def test_too_many_connections_are_turned_away(monitor: Monitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "MOST_OF_ONE_ADDRESS", 3)
    with serve(monitor, ServeOptions(port=0)) as where:
        with ExitStack() as stack:
            for _ in range(3):
                stack.enter_context(connect(where))
            with connect(where) as one_more:
                assert one_more.recv(1000).startswith(b"HTTP/1.1 503")
        until(lambda: ask(where, "/healthz").status == 200)


def until(true: object) -> None:
    """Wait until something is true."""
    end_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < end_s:
        try:
            if true():  # type: ignore[operator]
                return
        except (OSError, IndexError):
            pass  # turned away meanwhile
        time.sleep(0.02)
    pytest.fail("it never came true")


def test_too_many_streams_are_refused_and_places_become_free(monitor: Monitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "MOST_STREAMS", 2)
    with fed(monitor), serve(monitor, ServeOptions(port=0, preview_fps=60)) as where:
        with ExitStack() as stack:
            for _ in range(2):
                viewer = stack.enter_context(connect(where))
                viewer.sendall(b"GET /stream.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n")
                read_part(viewer)
            refused = ask(where, "/stream.mjpg")
            assert (refused.status, refused.headers["retry-after"]) == (503, "5")
            assert ask(where, "/snapshot.jpg").status == 200

        def place_is_free() -> bool:
            with connect(where) as viewer:
                viewer.sendall(b"GET /stream.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n")
                return viewer.recv(100).startswith(b"HTTP/1.1 200")

        until(place_is_free)


def test_a_viewer_who_left_is_noticed_while_the_source_is_away(monitor: Monitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "MOST_STREAMS", 1)
    with serve(monitor, ServeOptions(port=0)) as where:
        with connect(where) as viewer:
            viewer.sendall(b"GET /stream.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n")
            read_part(viewer)
        until(lambda: ask(where, "/stream.mjpg", method="HEAD").status == 200)


def rss_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_a_viewer_who_never_reads_delays_nobody_and_piles_nothing_up(monitor: Monitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "SEND_S", 0.5)
    with fed(monitor, fps=100), serve(monitor, ServeOptions(port=0, preview_fps=60)) as where, ExitStack() as stack:
        for _ in range(4):
            stuck = stack.enter_context(connect(where))
            stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            stuck.sendall(b"GET /stream.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with connect(where) as viewer:
            viewer.sendall(b"GET /stream.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n")
            _, rest = read_part(viewer)
            before_mb, frames, end_s = rss_mb(), 0, time.monotonic() + 0.8
            while time.monotonic() < end_s:
                _, rest = read_part(viewer, rest)
                frames += 1
        assert frames >= 8
        assert rss_mb() - before_mb < 10


def test_who_takes_too_long_is_cut_off(monitor: Monitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "SEND_S", 0.2)
    monkeypatch.setattr(server_module, "SEND_BUFFER", 4096)
    monkeypatch.setattr(server_module, "MOST_STREAMS", 1)
    with fed(monitor, fps=100), serve(monitor, ServeOptions(port=0, preview_fps=60)) as where, socket.socket() as stuck:
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.connect(("127.0.0.1", int(where.rstrip("/").rpartition(":")[2])))
        stuck.sendall(b"GET /stream.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n")
        until(lambda: ask(where, "/stream.mjpg", method="HEAD").status == 503)
        until(lambda: ask(where, "/stream.mjpg", method="HEAD").status == 200)


def test_work_is_kept_to_a_share_of_a_core(monkeypatch: pytest.MonkeyPatch) -> None:
    wall_s, cpu_s = [100.0], [5.0]
    monkeypatch.setattr(server_module.time, "monotonic", lambda: wall_s[0])
    monkeypatch.setattr(server_module.time, "thread_time", lambda: cpu_s[0])
    budget, share, burst_s = server_module.Budget(), server_module.CPU_SHARE, server_module.CPU_BURST_S
    assert budget.wait_s(99.0) == 0
    cpu_s[0] += burst_s + 0.01  # all that was saved up, and more
    assert budget.wait_s(99.0) == pytest.approx(0.01 / share)
    assert budget.wait_s(0.1) == 0.1
    wall_s[0] += 0.01 / share
    assert budget.wait_s(99.0) == pytest.approx(0, abs=1e-6)
    wall_s[0] += 1000  # no more than the burst is saved up
    budget.wait_s(99.0)
    cpu_s[0] += burst_s + 0.01
    assert budget.wait_s(99.0) == pytest.approx(0.01 / share)
    cpu_s[0] += 1000  # nor is more than that owed
    assert budget.wait_s(99.0) == pytest.approx(burst_s / share)


def test_viewers_of_the_stream_keep_nobody_else_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "CPU_SHARE", 1e-6)
    monkeypatch.setattr(server_module, "CPU_BURST_S", 1e-9)
    monitor = watching()
    with fed(monitor), serve(monitor, ServeOptions(port=0)) as where, ExitStack() as stack:
        viewers = [stack.enter_context(connect(where)) for _ in range(3)]
        for viewer in viewers:
            viewer.sendall(b"GET /stream.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n")
        began_s = time.monotonic()
        for _ in range(5):
            assert ask(where, "/healthz").status == 200
        assert time.monotonic() - began_s < 5
        for viewer in viewers:  # they get their pictures too, if few
            assert read_part(viewer)[0].startswith(b"\xff\xd8")


# ---- the end


def test_the_end_leaves_nothing_behind(monitor: Monitor) -> None:
    before_fds = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    for _ in range(3):
        with fed(monitor), serve(monitor, ServeOptions(port=0)) as where, ExitStack() as stack:
            viewer = stack.enter_context(connect(where))
            viewer.sendall(b"GET /stream.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n")
            read_part(viewer)
            stack.enter_context(connect(where))
            stack.pop_all().close()
        with pytest.raises(OSError, match="refused"):
            connect(where)
    until(lambda: not threads())
    if before_fds:
        until(lambda: len(os.listdir("/proc/self/fd")) <= before_fds)


def test_the_end_is_quick_while_somebody_looks(monitor: Monitor) -> None:
    with ExitStack() as viewers:
        with fed(monitor), serve(monitor, ServeOptions(port=0)) as where:
            for path in ("/stream.mjpg", "/stream.mjpg?source=1", "/stream.mjpg"):
                viewer = viewers.enter_context(connect(where))
                viewer.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            viewers.enter_context(connect(where))
            ask(where, "/healthz")
            began_s = time.monotonic()
        assert time.monotonic() - began_s < 1.5

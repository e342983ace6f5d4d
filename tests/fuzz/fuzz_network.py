"""What comes from the network, or is typed in: texts of sources and addresses, requests, answers of cameras and their streams."""

from __future__ import annotations

import functools
from contextlib import suppress

import answering
import cv2
import numpy as np
from fuzz_target import Target, clear

from edgedistill.errors import OutputError, SourceError
from edgedistill.runtime import http_answer
from edgedistill.runtime.address import Address, redact
from edgedistill.runtime.broker import parse_broker
from edgedistill.runtime.frames import Capture
from edgedistill.runtime.http_camera import open_http
from edgedistill.runtime.multipart import Multipart, MultipartError, boundary_of
from edgedistill.runtime.pattern import parse_pattern
from edgedistill.runtime.serve.options import parse_bind
from edgedistill.runtime.serve.request import RequestError, cookies, parse
from edgedistill.runtime.sources import SOURCES, kind_of, opening_of
from edgedistill.runtime.wishes import Wishes, in_pixels, parse_roi

SECRET = "hunter2"
#: What stands before any text, so that a password is in it.
LOGINS = (
    *(f"{scheme}://user:{SECRET}@" for scheme in ("http", "https", "rtsp", "RTSP", "test", "mqtt", "rstp", "ftp", "")),
    *(f"user:{SECRET}@", f"http:/user:{SECRET}@", f"rtsp:user:{SECRET}@", f"gst:rtspsrc location=rtsp://user:{SECRET}@"),
)
NO_ADDRESS = (SourceError, OutputError)


def text_of(data: bytes) -> str:
    """Return text as a command line gives it: bytes that are not UTF-8 come as half surrogates."""
    return data.decode("utf-8", "surrogateescape")


def source(data: bytes) -> None:
    """Any text is a source or is refused."""
    text = text_of(data)
    redact(text)
    try:
        assert kind_of(text) in SOURCES
        opening_of(text, Wishes(width=8, height=8))
        Address.parse(text)
    except SourceError as error:
        clear(error, data)
    with suppress(SourceError):
        parse_pattern(text)


def login(data: bytes) -> None:
    """Whatever follows a password, and whatever is wrong with it, the password is not told."""
    behind = text_of(data)
    for before in LOGINS:
        text = before + behind
        told = [redact(text)] if not text.startswith("gst:") else []
        for understood in (kind_of, opening_of, Address.parse, parse_broker, parse_pattern):
            try:
                found = understood(text)
                told += [found.name, found.target] if isinstance(found, Address) else []
            except NO_ADDRESS as error:
                clear(error, data)
                told.append(str(error))
        assert not any(SECRET in one for one in told), (text, told)


def region(data: bytes) -> None:
    """Any text is a region of interest that every frame has at least a pixel of, or is refused."""
    try:
        roi = parse_roi(text_of(data))
    except SourceError as error:
        clear(error, data)
        return
    x, y, width, height = in_pixels(roi, 480, 640)
    assert min(x, y) >= 0
    assert min(width, height) >= 1


def broker(data: bytes) -> None:
    """Any text is the address of a broker or is refused; the same for where a page is served."""
    text = text_of(data)
    for understood in (parse_broker, parse_bind):
        try:
            assert str(understood(text))
        except OutputError as error:
            clear(error, data)


def request(data: bytes) -> None:
    """Any bytes are a request or get a status."""
    try:
        cookies(parse(data))
    except RequestError as error:
        clear(error, data)
        if not 400 <= error.status <= 505:
            raise AssertionError(f"a status of {error.status}") from error


def multipart(data: bytes) -> None:
    """A stream's parts are the same however its bytes are cut; the first bytes say how they are."""
    sizes, boundary, sent = [1 + size for size in data[:3]] or [1], [None, "frame", "--frame", "a b"][len(data) % 4], data[3:]
    boundary_of(sent[:100].decode("latin-1"))
    cuts, place = [sent], 0
    pieces = []
    while place < len(sent):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(sent[place : place + size])
        place += size
    found = [_parts(one, boundary) for one in (cuts, pieces)]
    assert found[0] == found[1]


def _parts(pieces: list[bytes], boundary: str | None) -> list[bytes]:
    parser, found = Multipart(boundary), []
    with suppress(MultipartError):
        for piece in pieces:
            found += parser.feed(piece)
    return found


def streams() -> tuple[bytes, ...]:
    """Return streams of two cameras' dialects, behind the bytes that say how to cut."""
    jpeg = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    jpeg = jpeg[:40] + jpeg[-40:]
    part = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%b\r\n" % (len(jpeg), jpeg)
    return b"\x05\x30\x01" + part * 2, b"\x7f\x01\x02" + part.replace(b"\r\n", b"\n").replace(b"Content-Length", b"X") * 2


@functools.cache
def camera() -> answering.Answering:
    return answering.Answering()


def answer(data: bytes) -> None:
    """Whatever a camera answers, it is opened, or refused without telling the password; NUL, NUL parts its answers."""
    answers = data.split(b"\0\0")
    text = f"http://user:{SECRET}@127.0.0.1:{camera().port}/stream"
    camera().answers = answers
    try:
        capture = open_http(text, Wishes(fps=1000), otherwise=_no_video)
    except SourceError as error:
        clear(error, data, without=SECRET)
        return
    try:
        for _ in range(3):
            if capture.grab():
                capture.retrieve()
    except SourceError as error:
        clear(error, data, without=SECRET)
    finally:
        capture.release()


def _no_video(text: str) -> Capture:
    raise SourceError("no video")


def learn(data: bytes) -> None:
    """Whatever a camera asks for in a 401, there is a header to send, or none, or it is refused."""
    told = http_answer.http.client.HTTPMessage()
    for line in data.decode("latin-1").split("\n"):
        told["WWW-Authenticate"] = line.replace("\r", " ")
    address, login = Address.parse(f"http://user:{SECRET}@host/x"), http_answer.Login()
    login.learn(address, answering.Refusal(told))
    try:
        login.header(address)
    except SourceError as error:
        clear(error, data, without=SECRET)


ANSWERS = (
    b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: 3\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5\r\n--fra\r\n8\r\nme\r\n\r\nab\r\n0\r\n\r\n",
    b'HTTP/1.0 401 No\r\nWWW-Authenticate: Digest realm="a", nonce="b", qop="auth"\r\n\r\n\0\0HTTP/1.0 200 OK\r\n\r\n',
    b"HTTP/1.1 302 Found\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n\0\0HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n",
)
CHALLENGES = (b'Digest realm="a", nonce="b", qop="auth", algorithm=MD5, stale=true', b"Basic realm=x\nDigest x", b"Digest a=b, c")
TEXTS = (
    *(b"0", b"http://me:word@host:80/x?a=b", b"gst:videotestsrc ! x", b"usb:AB12", b"picamera:0", b"test://pattern?fps=5&frames=3"),
    *(b"a/*.png", b"rtsp://host/user=me_password=word_channel=1"),
)
REQUESTS = (b"GET /x?a=b&c HTTP/1.1\r\nHost: pi\r\nCookie: a=b; c=d\r\nX-Y: z", b"HEAD / HTTP/1.0")

TARGETS = {
    "source": Target(source, lambda: TEXTS, guided=True),
    "login": Target(login, lambda: (b"host:80/x?a=b#c", b"host/x@y", b"@/:?#", b"[::1]:99999/"), guided=True),
    "region": Target(region, lambda: (b"0,0,10,10", b"0.1,0.2,0.5,0.5", b"1e3,2,3,4.")),
    "broker": Target(broker, lambda: (b"mqtt://me@host:1883/home/cam", b"mqtts://[::1]/", b"0.0.0.0:8080", b"[::1]:80"), guided=True),
    "request": Target(request, lambda: REQUESTS, guided=True),
    "multipart": Target(multipart, streams, guided=True),
    "answer": Target(answer, lambda: ANSWERS, guided=True),
    "learn": Target(learn, lambda: CHALLENGES, guided=True),
}

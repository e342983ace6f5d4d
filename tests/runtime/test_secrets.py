"""One run with passwords in its addresses and everything on: no byte that it writes, serves or sends holds one."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import mosquitto as mq
import numpy as np
import pytest
from http_camera_server import HttpCamera

from edgedistill.runtime.pattern import draw_pattern

pytestmark = [pytest.mark.slow, pytest.mark.skipif(mq.MOSQUITTO is None, reason="mosquitto is not installed: apt-get install mosquitto")]

USER, WORD, BROKER_WORD, TOKEN = "attic-user", "hunter2-of-the-camera", "hunter2-of-the-broker", "hunter2-of-the-page"


def served(address: str) -> bytes:
    """Return what an address answers, head and all."""
    request = urllib.request.Request(address, headers={"Authorization": f"Bearer {TOKEN}"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return bytes(answer.headers) + answer.read()
    except urllib.error.HTTPError as refusal:
        return bytes(refusal.headers) + refusal.read()


@pytest.mark.parametrize("output", ["jsonl", "text", "csv"])
def test_no_password_is_written_served_or_sent(bundle_path: Path, tmp_path: Path, output: str) -> None:
    pytest.importorskip("paho.mqtt.client", reason="paho-mqtt is not installed")
    frames: list[np.ndarray | bytes] = [draw_pattern(number) for number in range(0, 90, 9)]
    (tmp_path / "word").write_text(BROKER_WORD)
    (tmp_path / "token").write_text(TOKEN)
    port = mq.free_port()
    with (
        HttpCamera(frames, fps=15) as stream,
        HttpCamera(frames) as single,
        mq.mosquitto(tmp_path) as broker,
        mq.listener(broker.port) as heard,
    ):
        stream.user = single.user = USER
        stream.password = single.password = WORD
        stream.auth, single.auth = "digest", "basic"
        command = [sys.executable, "-m", "edgedistill.runtime", "camera", str(bundle_path), "--output", output, "--wait"]
        command += ["--source", stream.with_password(stream.address), "--source", f"{single.with_password(single.snapshot)}?key={WORD}"]
        command += ["--record", str(tmp_path / "out/events"), "--record-above", "0.1", "--save", str(tmp_path / "out/video.avi")]
        command += ["--serve", str(port), "--token-file", str(tmp_path / "token")]
        command += ["--mqtt", f"mqtt://someone@127.0.0.1:{broker.port}/test", "--mqtt-password-file", str(tmp_path / "word")]
        (tmp_path / "out").mkdir()
        with (tmp_path / "out/lines").open("wb") as lines, (tmp_path / "out/log").open("wb") as told:
            process = subprocess.Popen(command, stdout=lines, stderr=told)
            try:
                mq.eventually(lambda: (tmp_path / "out/lines").stat().st_size > 2000, within_s=60)
                mq.eventually(lambda: heard.payloads("test/source/1"), within_s=30)
                paths = ("", "state.json?history", "metrics", "readyz", "snapshot.jpg", "nothing")
                answers = [served(f"http://127.0.0.1:{port}/{path}") for path in paths]
                stream.outage()  # an outage is told in the log
                time.sleep(1.0)
                single.user = "somebody else"  # and so is a password that is no good any more
                stream.user = "somebody else"
                stream.back()
                time.sleep(2.5)
                answers += [served(f"http://127.0.0.1:{port}/{path}") for path in paths]
            finally:
                process.send_signal(signal.SIGTERM)
                assert process.wait(30) == 0
        sent = [message.topic.encode() + message.payload for message in heard.messages]
    written = {path.name: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert {"video-0.avi", "video-1.avi", "lines", "log"} <= set(written)
    assert any(name.endswith(".json") for name in written), "an event was recorded"
    assert b"refuses the user or the password" in written["log"]
    assert all(answers[:4])
    everything = [*written.values(), *answers, *sent]
    for secret in (USER, WORD, BROKER_WORD, TOKEN):
        assert not [text[:200] for text in everything if secret.encode() in text]
